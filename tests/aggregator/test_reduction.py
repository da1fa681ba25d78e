"""From payloads to the next model file: every tensor right, bits independent of all that should not matter."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.blocks import LARGEST_BLOCK, LARGEST_ROWS, block_length, runs, spans
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.reduction import aggregate
from appfl_gc.aggregator.user_blocks import UserBlockAggregator
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, Layout, spec_of
from appfl_gc.payload.stores import FileStore, InlineStore
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta

State = dict[str, torch.Tensor]


def model(seed: int, width: int = 3000) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(width, 5, generator=generator),
        "bn.running_mean": torch.randn(17, generator=generator),
        "bn.num_batches_tracked": torch.tensor(seed),
        "conv.bias": torch.randn(width, generator=generator),
        "half": torch.randn(33, generator=generator).bfloat16(),
        "double": torch.randn(4, generator=generator).double(),
        "mask": torch.rand(9, generator=generator) > 0.5,
        "nothing": torch.zeros(3, 0),
    }


def land(arena: Arena, states: Sequence[State], slots: Sequence[int]) -> None:
    store = InlineStore()
    for state, slot in zip(states, slots, strict=True):
        arena.land(slot, store.put(Encoding(state, arena.spec)), store)


def metas(count: int) -> list[UpdateMeta]:
    return [UpdateMeta(UpdateId(f"c{i}", 1), 0, 10 + i, 1, Timing(0, 0, 0, 0)) for i in range(count)]


def reduced(tmp_path: Path, states: Sequence[State], slots: Sequence[int], threads: int = 1) -> bytes:
    current, out = tmp_path / "current", tmp_path / "out"
    model_file.write(model(0, states[0]["conv.bias"].numel()), current)
    aggregator, ages = FedAvgAggregator("sample_size"), [0] * len(states)
    with Arena(spec_of(states[0]), max(slots) + 1) as arena:
        land(arena, states, slots)
        aggregate(
            aggregator, current, arena, slots, metas(len(states)), ages, out, threads=threads, durable=False
        )
    return out.read_bytes()


def test_every_tensor_is_the_weighted_mean(tmp_path: Path) -> None:
    states = [model(seed) for seed in (1, 2, 3)]
    reduced(tmp_path, states, [0, 1, 2])
    result = model_file.open(tmp_path / "out")
    assert list(result) == list(model(0))
    for name, tensor in result.items():
        exact = sum(w / 33 * state[name].double() for w, state in zip((10, 11, 12), states, strict=True))
        assert tensor.dtype == states[0][name].dtype
        if tensor.is_floating_point():
            assert torch.allclose(tensor.double(), exact, rtol=torch.finfo(tensor.dtype).eps, atol=1e-12)
        else:
            assert torch.equal(tensor, exact.round().to(tensor.dtype))


def test_differences_and_values_side_by_side(tmp_path: Path) -> None:
    current, first, second = (model(seed) for seed in (0, 1, 2))
    trained = ["conv.weight", "conv.bias", "half", "double"]
    spec = spec_of(current, deltas=trained)
    updates = [
        {name: current[name] - new[name] if name in trained else new[name] for name in new}
        for new in (first, second)
    ]
    model_file.write(current, tmp_path / "current")
    with Arena(spec, 2) as arena:
        land(arena, updates, [0, 1])
        aggregate(FedAvgAggregator(), tmp_path / "current", arena, [0, 1], metas(2), [0, 0], tmp_path / "out")
    result = model_file.open(tmp_path / "out")
    for name in ("conv.weight", "conv.bias", "bn.running_mean", "double"):
        assert torch.allclose(result[name], (first[name] + second[name]) / 2, atol=1e-6), name
    assert result["bn.num_batches_tracked"] == 2
    assert model_file.read_spec(tmp_path / "out") == spec_of(current)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(5)), st.integers(1, 3))
def test_slots_and_threads_do_not_change_a_bit(tmp_path: Path, slots: list[int], threads: int) -> None:
    states = [model(seed, 20_000) for seed in range(1, 6)]
    expected = reduced(tmp_path, states, [0, 1, 2, 3, 4])
    assert reduced(tmp_path, states, slots, threads) == expected


def test_a_tensor_has_the_same_bits_wherever_it_lies(tmp_path: Path) -> None:
    states = [model(seed, 30_011) for seed in range(1, 8)]
    moved = [{"front": torch.ones(12_345), **state} for state in states]
    reduced(tmp_path, states, range(7))
    alone = {name: tensor.clone() for name, tensor in model_file.open(tmp_path / "out").items()}
    current = {"front": torch.zeros(12_345), **model(0, 30_011)}
    model_file.write(current, tmp_path / "moved")
    with Arena(spec_of(current), 7) as arena:
        land(arena, moved, range(7))
        fedavg = FedAvgAggregator("sample_size")
        aggregate(fedavg, tmp_path / "moved", arena, range(7), metas(7), [0] * 7, tmp_path / "new")
    result = model_file.open(tmp_path / "new")
    assert all(torch.equal(result[name], alone[name]) for name in alone)


def test_updates_are_untouched(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "payloads")
    states = [model(1), model(2)]
    model_file.write(model(0), tmp_path / "current")
    with Arena(spec_of(states[0]), 2) as arena:
        refs = [store.put(Encoding(state)) for state in states]
        before = [(store.directory / ref.locator).read_bytes() for ref in refs]
        for slot, ref in enumerate(refs):
            arena.land(slot, ref, store)
        aggregate(FedAvgAggregator(), tmp_path / "current", arena, [0, 1], metas(2), [0, 0], tmp_path / "out")
        for slot, state in enumerate(states):
            assert all(torch.equal(arena.state(slot)[name], state[name]) for name in state)
    assert [(store.directory / ref.locator).read_bytes() for ref in refs] == before


def test_a_block_of_many_rows_stays_small() -> None:
    sizes = [block_length(rows) for rows in (1, 16, 17, 65, 200, 10_000)]
    assert all(size & (size - 1) == 0 for size in sizes)
    assert sizes[0] == LARGEST_BLOCK
    assert sizes[4] * 200 <= LARGEST_ROWS


@given(st.integers(1, 50_000), st.integers(1, 50_000), st.sampled_from([200, 1000]))
def test_blocks_cover_a_run_and_end_at_multiples_of_their_length(first: int, second: int, rows: int) -> None:
    layout = Layout.of(spec_of({"a": torch.empty(first).double(), "b": torch.empty(second)}))
    longest = block_length(rows)
    for run in runs(layout.spec, (), splits=False):
        size = 8 if run.segment.dtype == "float64" else 4
        place = (layout.start + run.segment.offset) // size
        blocks = list(spans(layout, run, rows))
        assert [span.begin for span in blocks] == [0, *(span.end for span in blocks[:-1])]
        assert blocks[-1].end == run.segment.numel
        assert all((place + span.end) % longest == 0 for span in blocks[:-1])
        assert all(span.end - span.begin <= longest for span in blocks)


def test_a_missing_update_is_an_error_not_zeros(tmp_path: Path) -> None:
    model_file.write(model(0), tmp_path / "current")
    with Arena(spec_of(model(1)), 3) as arena:
        land(arena, [model(1), model(2)], [0, 2])
        with pytest.raises(Exception, match="Slot 1 holds no update"):
            fedavg = FedAvgAggregator()
            aggregate(fedavg, tmp_path / "current", arena, [0, 1, 2], metas(3), [0] * 3, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Broken(Aggregator):
    """An aggregator whose blocks are wrong in a way of the test's choice."""

    def __init__(self, block: torch.Tensor) -> None:
        self.block = block

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        return [1.0] * len(metas)

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        return self.block, {}


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (torch.tensor([1.0, float("inf")]), r"not finite.*infinite.*'w'.*\[1\]"),
        (torch.tensor([1.0]), r"'w'; expected torch.float32 of shape \[2\]"),
        (torch.tensor([1.0, 2.0]).double(), r"torch.float64.*expected torch.float32"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_wrong_block_ends_the_aggregation(
    tmp_path: Path, block: torch.Tensor, message: str, threads: int
) -> None:
    state = {"w": torch.ones(2)}
    model_file.write(state, tmp_path / "current")
    with Arena(spec_of(state), 1) as arena:
        land(arena, [state], [0])
        with pytest.raises(UserCodeError, match=message):
            aggregate(
                Broken(block),
                tmp_path / "current",
                arena,
                [0],
                metas(1),
                [0],
                tmp_path / "out",
                threads=threads,
                durable=False,
            )
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_a_model_that_is_not_the_updates(tmp_path: Path) -> None:
    model_file.write({"w": torch.ones(3)}, tmp_path / "current")
    with Arena(spec_of({"w": torch.ones(2)}), 1) as arena:
        land(arena, [{"w": torch.ones(2)}], [0])
        with pytest.raises(UserCodeError, match="'w'"):
            aggregate(FedAvgAggregator(), tmp_path / "current", arena, [0], metas(1), [0], tmp_path / "out")


def test_torchs_thread_count_is_as_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    reduced(tmp_path, [model(1), model(2)], [0, 1], threads=2)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [before] == seen == [torch.get_num_threads()]


def test_a_whole_model_class_writes_the_same_file(tmp_path: Path) -> None:
    class Mean:
        def aggregate(self, local_models: dict[str, State]) -> State:
            count = len(local_models)
            return {
                name: (sum(state[name].double() for state in local_models.values()) / count)
                .round(decimals=0 if not tensor.is_floating_point() else 12)
                .to(tensor.dtype)
                for name, tensor in next(iter(local_models.values())).items()
            }

    states = [model(1), model(3)]
    model_file.write(model(0), tmp_path / "current")
    with Arena(spec_of(states[0]), 2) as arena:
        land(arena, states, [0, 1])
        aggregate(
            UserClassAggregator(Mean()),
            tmp_path / "current",
            arena,
            [0, 1],
            metas(2),
            [0, 0],
            tmp_path / "out",
        )
    result = model_file.open(tmp_path / "out")
    assert torch.allclose(result["conv.bias"], (states[0]["conv.bias"] + states[1]["conv.bias"]) / 2)
    assert result["bn.num_batches_tracked"] == 2


def test_a_whole_model_class_may_keep_the_updates_and_write_to_them(tmp_path: Path) -> None:
    class Keeps:
        def aggregate(self, local_models: dict[str, State]) -> State:
            self.kept = local_models["c0"]["w"]
            result = {"w": self.kept.clone()}
            self.kept += 1
            return result

    mine = Keeps()
    model_file.write({"w": torch.zeros(5000)}, tmp_path / "current")
    with Arena(spec_of({"w": torch.zeros(5000)}), 1) as arena:
        land(arena, [{"w": torch.full((5000,), 3.0)}], [0])
        aggregate(
            UserClassAggregator(mine), tmp_path / "current", arena, [0], metas(1), [0], tmp_path / "out"
        )
        assert arena.state(0)["w"].unique().tolist() == [3]
        arena.free(0)
        land(arena, [{"w": torch.full((5000,), 7.0)}], [0])
    assert mine.kept.unique().tolist() == [4]
    mine.kept += 1
    assert model_file.open(tmp_path / "out")["w"].unique().tolist() == [3]


def test_a_failure_in_a_users_reduce_comes_out_of_the_threads(tmp_path: Path) -> None:
    class Exits:
        def weights(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> list[float]:
            return [1.0] * len(metas)

        def reduce(self, *block: object) -> torch.Tensor:
            raise SystemExit(3)

    state = {"w": torch.ones(2), "n": torch.tensor(1)}
    model_file.write(state, tmp_path / "current")
    with Arena(spec_of(state), 1) as arena:
        land(arena, [state], [0])
        with pytest.raises(UserCodeError, match=r"Exits\.reduce failed: sys.exit\(3\)"):
            aggregate(
                UserBlockAggregator(Exits()),
                tmp_path / "current",
                arena,
                [0],
                metas(1),
                [0],
                tmp_path / "out",
                threads=2,
            )
    assert [path.name for path in tmp_path.iterdir()] == ["current"]
