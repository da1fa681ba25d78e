"""How far an update moves the model: the number, and who is refused by it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from appfl_gc.aggregator.blocks import LARGEST_BLOCK
from appfl_gc.aggregator.update_norm import check_norm, update_norm
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.stores import InlineStore
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError
from tests.aggregator.folds import TRAINED, State, model


def landed(arena: Arena, update: State, slot: int = 0) -> None:
    store = InlineStore(1 << 30)
    arena.land(slot, store.put(Encoding(update, arena.spec)), store)


def expected(update: State, start: State | None) -> float:
    squares = 0.0
    for name in TRAINED:
        move = update[name].double() - (0 if start is None else start[name].double())
        squares += float(move.square().sum())
    return math.sqrt(squares)


@pytest.fixture
def start(tmp_path: Path) -> Path:
    model_file.write(model(1), tmp_path / "model")
    return tmp_path / "model"


def test_only_what_training_changes_counts(start: Path) -> None:
    update = model(2)
    with Arena(spec_of(update), 2) as arena:
        landed(arena, update, 1)
        assert update_norm(arena, 1, start, TRAINED) == pytest.approx(expected(update, model(1)), rel=1e-12)
        assert update_norm(arena, 1, start, frozenset({"bn.num_batches_tracked", "mask"})) == 0
        assert update_norm(arena, 1, start, frozenset({"half"})) == pytest.approx(
            float((update["half"].double() - model(1)["half"].double()).norm())
        )


def test_differences_count_by_themselves(start: Path) -> None:
    update = model(2)
    floating = [name for name, tensor in update.items() if tensor.is_floating_point()]
    with Arena(spec_of(update, floating), 1) as arena:
        landed(arena, update)
        assert update_norm(arena, 0, start, TRAINED) == pytest.approx(expected(update, None), rel=1e-12)


def test_threads_and_blocks_change_no_bit(tmp_path: Path) -> None:
    before, after = model(1, width=LARGEST_BLOCK // 2), model(2, width=LARGEST_BLOCK // 2)
    model_file.write(before, tmp_path / "model")
    with Arena(spec_of(after), 1) as arena:
        landed(arena, after)
        found = {update_norm(arena, 0, tmp_path / "model", TRAINED, threads) for threads in (1, 2, 5, None)}
        assert len(found) == 1
        assert found.pop() == pytest.approx(expected(after, before), rel=1e-12)


def test_a_norm_that_no_float_holds_is_infinite_and_refused(tmp_path: Path) -> None:
    model_file.write({"w": torch.zeros(3, dtype=torch.float64)}, tmp_path / "model")
    update = {"w": torch.full((3,), 1e200, dtype=torch.float64)}
    with Arena(spec_of(update), 1) as arena:
        landed(arena, update)
        assert update_norm(arena, 0, tmp_path / "model", frozenset({"w"})) == math.inf
        with pytest.raises(UpdateRefusedError, match="norm inf"):
            check_norm(arena, 0, tmp_path / "model", frozenset({"w"}), 1e300)


def test_the_bound_itself_passes_and_what_is_above_is_refused(tmp_path: Path) -> None:
    model_file.write({"w": torch.zeros(2)}, tmp_path / "model")
    update = {"w": torch.tensor([3.0, 4.0])}
    with Arena(spec_of(update), 1) as arena:
        landed(arena, update)
        trained = frozenset({"w"})
        assert check_norm(arena, 0, tmp_path / "model", trained, 5.0) == 5.0
        with pytest.raises(UpdateRefusedError, match=r"The update has norm 5, above max_update_norm 4\.99"):
            check_norm(arena, 0, tmp_path / "model", trained, 4.99)
        with pytest.raises(TransferError, match="cannot be read"):
            check_norm(arena, 0, tmp_path / "gone", trained, 5.0)
