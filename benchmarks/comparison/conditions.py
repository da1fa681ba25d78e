"""Under which conditions the algorithms are compared: who is how fast, and who waits how long in a queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from appfl_gc.simulation.builtin_profiles import STEP_SECONDS, builtin_profiles
from appfl_gc.simulation.draws import Constant, Lognormal
from appfl_gc.simulation.profile import ClientProfile

QUEUE_MEANS = (1.0, 2.0, 4.0, 6.0, 10.0, 15.0, 20.0, 30.0)
"""Seconds; a client waits one of these on average."""
QUEUE_SIGMA = 0.4
"""Standard deviation of the logarithm of a queue time; what published FedQueue configurations have by default."""


@dataclass(frozen=True)
class Condition:
    """A federation of so many clients.

    Attributes:
        name: in file names and on the command line.
        title: in tables and plots.
        clients: how many.
        profiles: what they are like, given a seed.
        t_sync: seconds of a round of FedQueue, chosen as a user would: about the time in which a client of middle
            speed and queue comes back.
    """

    name: str
    title: str
    clients: int
    profiles: Callable[[int], tuple[ClientProfile, ...]]
    t_sync: float


def built_in(name: str, clients: int | None) -> Callable[[int], tuple[ClientProfile, ...]]:
    """The built-in profiles called ``name``."""

    def made(seed: int) -> tuple[ClientProfile, ...]:
        return builtin_profiles(name, clients, seed)

    return made


def with_queues(seed: int) -> tuple[ClientProfile, ...]:
    """Clients of equal speed behind lognormal queues of different means."""
    del seed  # the queues' means are the same for each seed, their times are not
    return tuple(
        ClientProfile(
            client=f"client-{number}",
            step_seconds=Constant(STEP_SECONDS),
            queue_seconds=Lognormal(mean, QUEUE_SIGMA),
            overhead_seconds=Constant(1.0),
            transfer_seconds=Constant(0.5),
        )
        for number, mean in enumerate(QUEUE_MEANS, start=1)
    )


CONDITIONS = (
    Condition("homogeneous", "Equal speeds", 8, built_in("homogeneous", 8), 15.0),
    Condition("normal", "Normal speeds", 8, built_in("normal", 8), 15.0),
    Condition("exponential", "Exponential speeds", 8, built_in("exponential", 8), 15.0),
    Condition("four-supercomputers", "Four supercomputers", 4, built_in("four-supercomputers", None), 27.0),
    Condition("queues", "Lognormal queues", len(QUEUE_MEANS), with_queues, 40.0),
)
