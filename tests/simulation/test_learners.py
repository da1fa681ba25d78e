from __future__ import annotations

import pytest
import torch

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.registry import make_aggregator
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.simulation.builtin_profiles import builtin_profiles
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.learner import Trained, Work
from appfl_gc.simulation.model_learner import ModelLearner, State
from appfl_gc.simulation.stub import TENSOR, local_steps, stub_learner
from appfl_gc.simulation.timeline import Timeline
from tests.simulation.federations import SCHEDULERS, constant, scheduler


def learner(
    rate: float = 1.0, deltas: frozenset[str] = frozenset(), aggregator: str = "FedAvgAggregator"
) -> ModelLearner:
    """Each client adds its dispatch number times ``rate``."""

    def train(work: Work, state: State) -> tuple[State, Trained]:
        new = state["w"] + rate * work.dispatch
        return {"w": state["w"] - new if deltas else new}, Trained(5, {"loss": 0.5})

    return ModelLearner(
        {"w": torch.zeros(3)},
        frozenset({"w"}),
        make_aggregator(aggregator, {"num_clients": 2}),
        Cohort(2, 10),
        lambda client, args: local_steps(args, 10),
        train,
        lambda version, state: {"version": version, "w": float(state["w"][0])},
        deltas,
    )


@pytest.mark.parametrize("deltas", [frozenset(), frozenset({"w"})])
def test_updates_are_folded_into_versions(deltas: frozenset[str]) -> None:
    timeline = Timeline()
    model = learner(deltas=deltas)
    clients = [constant("a", 1.0), constant("b", 2.0)]
    summary = simulate(scheduler("sync", 4), clients, model, record=timeline.add)
    # Round r adds r: its dispatches have the round's number.
    assert [fold.numbers for fold in timeline.folds] == [
        {"version": n, "w": n * (n + 1) / 2} for n in (1, 2, 3, 4)
    ]
    assert torch.equal(model.state["w"], torch.full((3,), 10.0))
    assert summary.numbers == {"version": 4, "w": 10.0}


def test_a_stale_update_starts_from_the_version_that_was_sent() -> None:
    timeline = Timeline()
    summary = simulate(
        scheduler("async", 3), [constant("fast", 1.0), constant("slow", 2.5)],
        learner(aggregator="FedAsyncAggregator"), record=timeline.add,
    )  # fmt: skip
    alpha = 0.9 / 2
    first = alpha * 1
    second = first + alpha * 2
    # The slow client's only update is that of version 0, when two others are folded already.
    third = second + alpha * (1 - second)
    assert [fold.updates[0].client for fold in timeline.folds] == ["fast", "fast", "slow"]
    assert [fold.staleness for fold in timeline.folds] == [(0,), (0,), (2,)]
    assert (summary.max_staleness, summary.mean_staleness) == (2, pytest.approx(2 / 3))
    assert [fold.numbers["w"] for fold in timeline.folds] == pytest.approx([first, second, third])


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_memory_does_not_grow_with_the_length_of_a_simulation(kind: str) -> None:
    kept = []
    for epochs in (10, 80):
        model = learner(rate=0.0)
        simulate(scheduler(kind, epochs), builtin_profiles("normal", 4), model)
        kept.append(model.kept)
    assert all(versions <= 5 and updates <= 4 for versions, updates in kept), kept


def test_a_model_that_is_not_finite_ends_the_simulation() -> None:
    with pytest.raises(UserCodeError, match="not finite"):
        simulate(scheduler("sync", 1), [constant("a", 1.0)], learner(rate=float("inf")))


@pytest.mark.parametrize("send_gradient", [False, True])
def test_the_stub_goes_to_the_mean_of_its_clients_places(send_gradient: bool) -> None:
    clients = builtin_profiles("homogeneous", 5)
    steps = {profile.client: 100 for profile in clients}
    make = stub_learner(clients, make_aggregator("FedAvgAggregator", {}), steps, send_gradient=send_gradient)
    simulate(scheduler("sync", 30), clients, make)
    far = stub_learner(clients, make_aggregator("FedAvgAggregator", {}), dict.fromkeys(steps, 10_000))
    simulate(scheduler("sync", 1), clients, far)
    assert torch.allclose(make.state[TENSOR], far.state[TENSOR], atol=1e-5)
    assert float(far.state[TENSOR].abs().max()) > 0.01
