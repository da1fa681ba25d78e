"""Server optimisers against torch's own optimisers, and against the papers' formulas in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.server_optimisers import (
    FedAdagradAggregator,
    FedAdamAggregator,
    FedAvgMAggregator,
    FedYogiAggregator,
)
from appfl_gc.protocol.errors import UserCodeError
from tests.aggregator.folds import State, metas

ROUNDS = 6
SIZES = (1, 3)
ETA, TAU, BETA1, BETA2 = 0.3, 0.05, 0.8, 0.9

Step = Callable[[torch.Tensor], None]


def trajectory(
    aggregator: Aggregator, follow: Callable[[torch.Tensor], Step], *, delta: bool = False
) -> None:
    """Fold random updates, hand their pseudo-gradient to a reference, and compare the models."""
    generator = torch.Generator().manual_seed(3)
    model = InMemoryModel(
        {"w": torch.randn(7, generator=generator, dtype=torch.float64)}, frozenset({"w"}), aggregator
    )
    reference = model.state["w"].clone()
    step = follow(reference)
    for _ in range(ROUNDS):
        current = model.state["w"]
        updates: list[State] = [
            {"w": current + torch.randn(7, generator=generator, dtype=torch.float64)} for _ in SIZES
        ]
        mean = sum(size / sum(SIZES) * update["w"] for size, update in zip(SIZES, updates, strict=True))
        step(reference - mean)
        if delta:
            updates = [{"w": current - update["w"]} for update in updates]
        deltas = frozenset({"w"}) if delta else frozenset()
        model.fold(updates, metas(SIZES), [0, 0], Cohort(2, 4), deltas)
        assert torch.allclose(model.state["w"], reference, rtol=1e-12, atol=1e-12)


def torchs(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> Callable[[torch.Tensor], Step]:
    """A reference that is an optimiser of torch."""

    def follow(reference: torch.Tensor) -> Step:
        optimiser = make([reference])

        def step(gradient: torch.Tensor) -> None:
            reference.grad = gradient
            optimiser.step()

        return step

    return follow


@pytest.mark.parametrize("delta", [False, True])
def test_fedavgm_is_sgd_with_momentum(delta: bool) -> None:
    fedavgm = FedAvgMAggregator(BETA1, "sample_size")
    trajectory(fedavgm, torchs(lambda w: torch.optim.SGD(w, lr=1.0, momentum=BETA1)), delta=delta)


def test_fedadagrad_without_momentum_is_adagrad() -> None:
    adagrad = FedAdagradAggregator(ETA, TAU, 0.0, "sample_size")
    trajectory(
        adagrad,
        torchs(lambda w: torch.optim.Adagrad(w, lr=ETA, initial_accumulator_value=TAU**2, eps=TAU)),
    )


def test_fedadam_without_momentum_is_rmsprop_from_tau() -> None:
    def make(w: list[torch.Tensor]) -> torch.optim.Optimizer:
        optimiser = torch.optim.RMSprop(w, lr=ETA, alpha=BETA2, eps=TAU)
        start = torch.full_like(w[0], TAU**2)
        optimiser.state[w[0]] = {"step": torch.tensor(0.0), "square_avg": start}
        return optimiser

    trajectory(FedAdamAggregator(ETA, TAU, 0.0, BETA2, "sample_size"), torchs(make))


def paper(second: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[torch.Tensor], Step]:
    """Algorithm 2 of Reddi et al., with their sign of Delta."""

    def follow(reference: torch.Tensor) -> Step:
        m, v = np.zeros(7), np.full(7, TAU**2)

        def step(gradient: torch.Tensor) -> None:
            nonlocal m, v
            delta = -gradient.numpy()
            m = BETA1 * m + (1 - BETA1) * delta
            v = second(v, delta**2)
            reference.copy_(torch.from_numpy(reference.numpy() + ETA * m / (np.sqrt(v) + TAU)))

        return step

    return follow


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize(
    ("aggregator", "second"),
    [
        (FedAdagradAggregator(ETA, TAU, BETA1, "sample_size"), lambda v, square: v + square),
        (
            FedAdamAggregator(ETA, TAU, BETA1, BETA2, "sample_size"),
            lambda v, square: BETA2 * v + (1 - BETA2) * square,
        ),
        (
            FedYogiAggregator(ETA, TAU, BETA1, BETA2, "sample_size"),
            lambda v, square: v - (1 - BETA2) * square * np.sign(v - square),
        ),
    ],
)
def test_the_papers_formulas(
    aggregator: Aggregator, second: Callable[[np.ndarray, np.ndarray], np.ndarray], delta: bool
) -> None:
    trajectory(aggregator, paper(second), delta=delta)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_what_is_not_trained_is_averaged(dtype: torch.dtype) -> None:
    adam = FedAdamAggregator(ETA, TAU, BETA1, BETA2)
    state = {"w": torch.zeros(1), "b": torch.zeros(2, dtype=dtype)}
    model = InMemoryModel(state, frozenset({"w"}), adam)
    updates = [{"w": torch.ones(1), "b": torch.ones(2, dtype=dtype)} for _ in range(2)]
    for _ in range(2):
        assert model.fold(updates, metas([1, 1]), [0, 0], Cohort(2, 2))["b"].tolist() == [1, 1]


def test_an_enormous_update_leaves_a_state_that_goes_on() -> None:
    """Its square is beyond float32; an infinite second moment would freeze the weight for ever."""
    adam = FedAdamAggregator(1.0, 0.1, 0.0, 0.0)
    model = InMemoryModel({"w": torch.zeros(1)}, frozenset({"w"}), adam)
    model.fold([{"w": torch.tensor([1e30])}], metas([1]), [0], Cohort(1, 1))
    before = model.state["w"].item()
    after = model.fold([{"w": torch.tensor([before + 1])}], metas([1]), [0], Cohort(1, 1))["w"].item()
    assert after == pytest.approx(before + 1 / 1.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, TAU, BETA1, BETA2), "server_learning_rate is 0; expected a number above 0"),
        ((ETA, 0, BETA1, BETA2), "server_adapt_param is 0"),
        ((ETA, TAU, 1, BETA2), "server_momentum_param_1 is 1; expected a number of at least 0 and below 1"),
        ((ETA, TAU, BETA1, -0.1), "server_momentum_param_2 is -0.1"),
        ((ETA, TAU, BETA1, "0.9"), "server_momentum_param_2 is '0.9'"),
    ],
)
def test_wrong_arguments_are_told(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        FedAdamAggregator(*arguments)
