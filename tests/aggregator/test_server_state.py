"""The server's own state in its file: what is in it, when it is there, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.reduction import aggregate
from appfl_gc.aggregator.server_optimisers import FedAdamAggregator, FedAvgMAggregator
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.stores import InlineStore
from appfl_gc.protocol.errors import TransferError, UserCodeError
from tests.aggregator.folds import State, metas

TRAINED = frozenset({"w", "wide"})
START: State = {
    "w": torch.tensor([1.0, 2.0]),
    "running": torch.zeros(2),
    "wide": torch.tensor([3.0], dtype=torch.float64),
    "n": torch.tensor(1),
}
UPDATE: State = {
    "w": torch.tensor([0.0, 4.0]),
    "running": torch.ones(2),
    "wide": torch.tensor([3.5], dtype=torch.float64),
    "n": torch.tensor(2),
}


class Fold:
    """One update folded into a model on disk."""

    def __init__(self, directory: Path) -> None:
        self.current, self.out = directory / "model", directory / "new"
        self.state, self.state_out = directory / "state", directory / "new-state"
        model_file.write(START, self.current)

    def __call__(self, aggregator: Aggregator, *, state_out: bool = True) -> None:
        store = InlineStore()
        with Arena(spec_of(UPDATE), 1) as arena:
            arena.land(0, store.put(Encoding(UPDATE)), store)
            aggregate(
                aggregator,
                self.current,
                arena,
                [0],
                metas([1]),
                [0],
                self.out,
                trained=TRAINED,
                state=self.state,
                state_out=self.state_out if state_out else None,
                durable=False,
            )


@pytest.fixture
def fold(tmp_path: Path) -> Fold:
    return Fold(tmp_path)


def test_rows_are_named_after_their_tensors_and_only_trained_ones_have_them(fold: Fold) -> None:
    fold(FedAdamAggregator(1.0, 0.1, 0.5, 0.75))
    state = model_file.open(fold.state_out)
    assert set(state) == {f"{row}.{name}" for row in ("momentum", "second_moment") for name in TRAINED}
    assert state["momentum.w"].tolist() == [0.5, -1.0]
    assert state["second_moment.w"].tolist() == pytest.approx([0.75 * 0.01 + 0.25, 0.75 * 0.01 + 1.0])
    assert state["momentum.wide"].tolist() == [-0.25]
    assert (state["momentum.w"].dtype, state["momentum.wide"].dtype) == (torch.float32, torch.float64)


def test_a_fold_goes_on_from_the_state_of_the_last(fold: Fold) -> None:
    momentum = FedAvgMAggregator(0.5)
    fold(momentum)
    fold.state_out.replace(fold.state)
    fold.out.replace(fold.current)
    model_file.write(START, fold.current)
    fold(momentum)
    # Twice the same gradient [1, -2]: m is 1.5 of it.
    assert model_file.open(fold.out)["w"].tolist() == [1 - 1.5, 2 + 3.0]
    assert model_file.open(fold.state)["momentum.w"].tolist() == [1, -2]


def test_the_state_is_there_before_the_model(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed server goes on with a state that fits, whichever of both it finds."""
    names = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        names.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    fold(FedAvgMAggregator(0.5))
    assert names == ["new-state", "new"]


def test_a_failed_fold_leaves_neither(fold: Fold) -> None:
    class Breaks(FedAvgMAggregator):
        def reduce(self, block, weights):  # type: ignore[no-untyped-def]
            new, state = super().reduce(block, weights)
            return new * float("nan"), state

    with pytest.raises(UserCodeError, match="not finite"):
        fold(Breaks(0.5))
    assert [path.name for path in fold.current.parent.iterdir()] == ["model"]


def test_an_aggregator_without_state_writes_none_and_reads_none(fold: Fold) -> None:
    fold.state.write_bytes(b"of something else")
    fold(FedAvgAggregator())
    assert not fold.state_out.exists()
    fold(FedAvgAggregator(), state_out=False)


def test_a_state_needs_a_file(fold: Fold) -> None:
    with pytest.raises(UserCodeError, match="no file is named"):
        fold(FedAvgMAggregator(0.5), state_out=False)


def test_the_state_of_another_aggregator_is_refused(fold: Fold) -> None:
    fold(FedAvgMAggregator(0.5))
    fold.state_out.replace(fold.state)
    with pytest.raises(UserCodeError, match=r"another model or aggregator.*'second_moment\.wide'"):
        fold(FedAdamAggregator(1.0, 0.1, 0.5, 0.75))


def test_a_damaged_state_is_refused(fold: Fold) -> None:
    fold.state.write_bytes(b"x" * 100)
    with pytest.raises(TransferError, match="is no state of an aggregator"):
        fold(FedAvgMAggregator(0.5))
