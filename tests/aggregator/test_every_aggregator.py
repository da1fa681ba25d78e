"""What holds for every aggregator, on models with tensors of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.reduction import aggregate
from appfl_gc.aggregator.registry import BUILT
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.stores import InlineStore
from tests.aggregator.folds import TRAINED, State, every, metas, model

CLIENTS = 5
COHORT = Cohort(CLIENTS, 60)
AGES = [0, 2, 0, 1, 0]
KNOWN = metas([10, 11, 12, 13, 14], [5, 6, 7, 8, 9], [{"penalty": 1.0 + i} for i in range(CLIENTS)])
everyone = pytest.mark.parametrize("name", BUILT)


def updates_of(current: State, seed: int, deltas: frozenset[str], width: int = 3000) -> list[State]:
    """Updates that lie around random models; as differences where asked for."""
    new = [model(seed + client, width) for client in range(CLIENTS)]
    return [
        {name: current[name] - tensor if name in deltas else tensor for name, tensor in update.items()}
        for update in new
    ]


class Files:
    """A global model and its state as files, folded as a run does."""

    def __init__(self, directory: Path, aggregator: Aggregator, width: int = 3000) -> None:
        self.aggregator, self.directory, self.version = aggregator, directory, 0
        model_file.write(model(0, width), self.model(0), durable=False)

    def model(self, version: int) -> Path:
        return self.directory / f"model-{version}"

    def state(self, version: int) -> Path:
        return self.directory / f"state-{version}"

    def fold(
        self, updates: list[State], deltas: frozenset[str], slots: list[int] | None = None, threads: int = 1
    ) -> State:
        places, store = slots or list(range(CLIENTS)), InlineStore()
        with Arena(spec_of(updates[0], deltas), max(places) + 1) as arena:
            for slot, update in zip(places, updates, strict=True):
                arena.land(slot, store.put(Encoding(update, arena.spec)), store)
            aggregate(
                self.aggregator,
                self.model(self.version),
                arena,
                places,
                KNOWN,
                AGES,
                self.model(self.version + 1),
                cohort=COHORT,
                trained=TRAINED,
                state=self.state(self.version),
                state_out=self.state(self.version + 1),
                threads=threads,
                durable=False,
            )
        self.version += 1
        return model_file.open(self.model(self.version))


def equal(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def close(first: State, second: State) -> bool:
    return all(
        torch.allclose(
            first[name].double(),
            second[name].double(),
            rtol=2**-6 if name == "half" else 1e-4,
            atol=2e-2 if name == "half" else 1e-5,
        )
        for name in first
    )


@everyone
@pytest.mark.parametrize("deltas", [frozenset(), TRAINED], ids=["values", "differences"])
def test_a_model_in_memory_has_the_bits_of_the_files(
    tmp_path: Path, name: str, deltas: frozenset[str]
) -> None:
    aggregator = every()[name]
    files, memory = Files(tmp_path, aggregator), InMemoryModel(model(0), TRAINED, aggregator)
    for number in range(3):
        updates = updates_of(memory.state, 10 * number + 1, deltas)
        new = memory.fold(updates, KNOWN, AGES, COHORT, deltas)
        assert equal(new, files.fold(updates, deltas))
        assert all(tensor.isfinite().all() for tensor in new.values() if tensor.is_floating_point())
    assert equal(memory.state, new)


@everyone
def test_slots_and_threads_do_not_change_a_bit_of_model_and_state(tmp_path: Path, name: str) -> None:
    width = 30_000
    updates, results = updates_of(model(0, width), 1, frozenset(), width), []
    for number, (slots, threads) in enumerate(
        ([[0, 1, 2, 3, 4], 1], [[7, 2, 9, 0, 4], 1], [[4, 3, 2, 1, 0], 3])
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        files = Files(directory, every()[name], width)
        files.fold(updates, frozenset(), slots, threads)
        state = files.state(1)
        assert state.exists() == bool(files.aggregator.state)
        results.append((files.model(1).read_bytes(), state.read_bytes() if state.exists() else b""))
    assert results[0] == results[1] == results[2]


@everyone
def test_differences_of_what_is_not_stale_are_as_good_as_values(tmp_path: Path, name: str) -> None:
    values, differences = (InMemoryModel(model(0), TRAINED, every()[name]) for _ in range(2))
    for number in range(3):
        as_values = updates_of(values.state, 10 * number + 1, frozenset())
        as_differences = [
            {
                key: differences.state[key] - tensor if key in TRAINED else tensor
                for key, tensor in update.items()
            }
            for update in as_values
        ]
        values.fold(as_values, KNOWN, [0] * CLIENTS, COHORT)
        differences.fold(as_differences, KNOWN, [0] * CLIENTS, COHORT, TRAINED)
    assert close(values.state, differences.state)


@everyone
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(CLIENTS)))
def test_the_order_of_the_clients_matters_no_more_than_rounding_does(name: str, order: list[int]) -> None:
    updates = updates_of(model(0, 50), 1, frozenset(), 50)
    results = []
    for places in (list(range(CLIENTS)), order):
        folded = InMemoryModel(model(0, 50), TRAINED, every()[name])
        results.append(
            folded.fold(
                [updates[i] for i in places], [KNOWN[i] for i in places], [AGES[i] for i in places], COHORT
            )
        )
    assert close(*results)


@everyone
@pytest.mark.parametrize("delta", [False, True])
def test_clients_that_learnt_nothing_leave_the_model_as_it_is(name: str, delta: bool) -> None:
    start = model(0)
    deltas = TRAINED if delta else frozenset()
    same = {key: tensor - tensor if key in deltas else tensor for key, tensor in start.items()}
    new = InMemoryModel(start, TRAINED, every()[name]).fold([same] * CLIENTS, KNOWN, AGES, COHORT, deltas)
    assert close(new, start)
    assert all(torch.equal(new[key], start[key]) for key in start if not start[key].is_floating_point())


@everyone
def test_differences_do_not_take_the_models_place(name: str) -> None:
    """A model of 1 and a step of 0.1 from every client: never a model of 0.1."""
    start = {"w": torch.ones(3, dtype=torch.float64)}
    step = {"w": torch.full((3,), 0.1, dtype=torch.float64)}
    new = InMemoryModel(start, frozenset({"w"}), every()[name]).fold(
        [step] * CLIENTS, KNOWN, [0] * CLIENTS, COHORT, frozenset({"w"})
    )
    assert 0.5 < new["w"].min() <= new["w"].max() < 1


@everyone
def test_nothing_that_is_given_is_changed(name: str) -> None:
    start = model(0)
    memory = InMemoryModel(start, TRAINED, every()[name])
    first = memory.state
    updates = updates_of(start, 1, frozenset())
    copies = [{key: tensor.clone() for key, tensor in update.items()} for update in updates]
    memory.fold(updates, KNOWN, AGES, COHORT)
    memory.fold(updates, KNOWN, AGES, COHORT)
    assert all(equal(update, copy) for update, copy in zip(updates, copies, strict=True))
    assert equal(start, model(0))
    assert equal(first, model(0))


@everyone
def test_a_single_update_is_enough(name: str) -> None:
    update = model(1)
    new = InMemoryModel(model(0), TRAINED, every()[name]).fold([update], KNOWN[:1], [0], COHORT)
    assert all(new[key].dtype == update[key].dtype and new[key].shape == update[key].shape for key in update)
    assert not torch.equal(new["conv.weight"], model(0)["conv.weight"])
