"""A learner that costs nothing: a small vector which each client pulls to a place of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.protocol.wire import Json
from appfl_gc.simulation.learner import Trained, Work
from appfl_gc.simulation.model_learner import ModelLearner, State
from appfl_gc.simulation.profile import ClientProfile

WIDTH = 8
"""Elements of the vector."""

TENSOR = "weight"
RATE = 0.01
"""The share of its way to its place that a client goes in a local step."""


MOST_STEPS = 1_000_000_000
"""No dispatch has more local steps."""


def local_steps(args: Mapping[str, Json], otherwise: int) -> int:
    """The steps that a dispatch's args ask for, or ``otherwise``; at least 1.

    Raises ``UserCodeError`` if they are more than ``MOST_STEPS``.
    """
    asked = args.get("local_steps")
    steps = asked if isinstance(asked, int | float) else otherwise
    if not steps <= MOST_STEPS:
        raise UserCodeError(
            f"A dispatch with more than {MOST_STEPS:,} local steps can't be simulated.",
            "Lower num_local_steps, or the local steps that the scheduler gives.",
        )
    return max(1, int(steps))


def stub_learner(
    profiles: Sequence[ClientProfile],
    aggregator: Aggregator,
    steps: Mapping[str, int],
    *,
    seed: int = 0,
    send_gradient: bool = False,
) -> ModelLearner:
    """A learner of ``WIDTH`` numbers, so that versions, staleness and aggregators are real and training is not.

    Args:
        profiles: the clients.
        aggregator: folds.
        steps: local steps of each client where the scheduler does not say.
        seed: what the clients' places are derived from.
        send_gradient: whether updates are differences.
    """
    places = {profile.client: _place(seed, profile.client) for profile in profiles}
    sizes = {profile.client: profile.sample_size for profile in profiles}

    def train(work: Work, state: State) -> tuple[State, Trained]:
        vector = state[TENSOR]
        moved = torch.lerp(vector, places[work.client], 1 - (1 - RATE) ** work.steps)
        update = vector - moved if send_gradient else moved
        return {TENSOR: update}, Trained(sizes[work.client])

    return ModelLearner(
        {TENSOR: torch.zeros(WIDTH)},
        frozenset({TENSOR}),
        aggregator,
        Cohort(len(profiles), sum(sizes.values())),
        lambda client, args: local_steps(args, steps[client]),
        train,
        deltas=frozenset({TENSOR}) if send_gradient else frozenset(),
    )


def _place(seed: int, client: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, 0, client, "stub"))
    return torch.randn(WIDTH, generator=generator)
