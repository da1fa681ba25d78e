"""What a client is like: how fast, how far away, how reliable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.measures import Timing
from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.draws import Chance, Constant, Draw

ALWAYS = Availability()
NOTHING = Constant(0.0)


@dataclass(frozen=True)
class ClientProfile:
    """One client of a simulation. Durations are in virtual seconds and drawn anew for each dispatch.

    Attributes:
        client: its id.
        step_seconds: a local step.
        queue_seconds: waiting before the site begins: batch queue, control plane, network.
        overhead_seconds: what the site does besides local steps: loading, validation and encoding.
        transfer_seconds: moving the model to the site and the update from it.
        loss: chance that a dispatch brings nothing; that is found out when it would have come back.
        availability: when it can be reached.
        sample_size: its training examples.
        group: name under which it is counted together with others like it.

    Raises:
        UserCodeError: if ``loss`` is not in [0, 1) or ``sample_size`` is negative.
    """

    client: str
    step_seconds: Draw
    queue_seconds: Draw = NOTHING
    overhead_seconds: Draw = NOTHING
    transfer_seconds: Draw = NOTHING
    loss: float = 0.0
    availability: Availability = ALWAYS
    sample_size: int = 0
    group: str = field(default="")

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1:
            raise UserCodeError(
                f"Client {self.client}: the chance that a dispatch is lost is {self.loss}; expected 0 to below 1."
            )
        if self.sample_size < 0:
            raise UserCodeError(f"Client {self.client} has {self.sample_size} samples; expected 0 or more.")
        if not self.group:
            object.__setattr__(self, "group", self.client)

    def timing(self, seed: int, dispatch: int, steps: int) -> Timing:
        """How long dispatch number ``dispatch`` with ``steps`` local steps takes; a pure function of the arguments."""

        def drawn(what: Draw, purpose: str) -> float:
            return what.draw(Chance(seed, self.client, dispatch, purpose))

        train = steps * drawn(self.step_seconds, "step seconds")
        overhead = drawn(self.overhead_seconds, "overhead")
        queue, transfer = drawn(self.queue_seconds, "queue"), drawn(self.transfer_seconds, "transfer")
        return Timing(queue=queue, compute=overhead + train, transfer=transfer, train=train)

    def loses(self, seed: int, dispatch: int) -> bool:
        """Whether dispatch number ``dispatch`` brings nothing."""
        return self.loss > 0 and Chance(seed, self.client, dispatch, "loss").uniform < self.loss


def checked(profiles: Sequence[ClientProfile]) -> tuple[ClientProfile, ...]:
    """``profiles`` as a federation.

    Raises:
        UserCodeError: if there is none, two have the same id, or one never comes up.
    """
    if not profiles:
        raise UserCodeError("A simulation needs at least one client.")
    seen: set[str] = set()
    for profile in profiles:
        if profile.client in seen:
            raise UserCodeError(f"Two clients of the simulation are called {profile.client!r}.")
        if math.isinf(profile.availability.first_up()):
            raise UserCodeError(f"Client {profile.client} never comes up.")
        seen.add(profile.client)
    return tuple(profiles)


def renamed(profiles: Sequence[ClientProfile], names: Sequence[str]) -> tuple[ClientProfile, ...]:
    """The first profiles with ``names`` in place of their own; as many as there are names, cycling."""
    return tuple(replace(profiles[n % len(profiles)], client=name) for n, name in enumerate(names))
