"""Random generators of a dataset that is kept for several tasks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset

from appfl_gc.site.trainer.dataset_state import capture
from appfl_gc.site.trainer.run import run_trainer

Draw = Callable[[Any], float]

GENERATORS: dict[str, tuple[Callable[[], Any], Draw]] = {
    "python": (lambda: random.Random(1), lambda rng: float(rng.gauss(0, 1))),
    "numpy": (lambda: np.random.default_rng(1), lambda rng: float(rng.random())),
    "numpy mt19937": (lambda: np.random.Generator(np.random.MT19937(1)), lambda rng: float(rng.random())),
    "numpy legacy": (lambda: np.random.RandomState(1), lambda rng: float(rng.normal())),
    "torch": (
        lambda: torch.Generator().manual_seed(1),
        lambda rng: float(torch.rand((), generator=rng)),
    ),
}


class Noisy(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples with noise from a generator of its own."""

    def __init__(self, kind: str) -> None:
        make, self.draw = GENERATORS[kind]
        self.rng = make()

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((4,), self.draw(self.rng)) + index, torch.tensor(index % 3)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_kept_dataset_gives_each_task_the_bits_of_one_built_anew(make_task: Any, kind: str) -> None:
    def bits(dataset: Any) -> torch.Tensor:
        update = run_trainer(make_task(train_dataset=dataset, val_dataset=None)).state["first.weight"]
        return update.clone()

    expected = bits(Noisy(kind))
    kept = Noisy(kind)
    restore = capture(kept, None)
    for _ in range(3):
        restore()
        assert torch.equal(bits(kept), expected)
    assert not torch.equal(bits(kept), expected)


def test_what_a_dataset_drew_while_it_was_built_stays_drawn() -> None:
    dataset = Noisy("python")
    built = dataset.rng.random()
    restore = capture(dataset)
    first = dataset.rng.random()
    restore()
    assert dataset.rng.random() == first != built


def test_wrapped_datasets_and_several_datasets_are_searched() -> None:
    train, validation = Noisy("torch"), Noisy("numpy")
    restore = capture(Subset(Subset(train, range(8)), range(4)), validation)
    first = [train[0][0], validation[0][0]]
    restore()
    assert all(torch.equal(a, b) for a, b in zip(first, [train[0][0], validation[0][0]], strict=True))


def test_datasets_without_generators_or_that_wrap_themselves_are_left_alone() -> None:
    class Ring:
        def __init__(self) -> None:
            self.dataset = self
            self.rng = random.SystemRandom()

    capture(None, [1, 2], Ring())()
