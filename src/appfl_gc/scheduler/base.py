"""What a scheduler is."""

from __future__ import annotations

import enum
from typing import Protocol

from appfl_gc.protocol.schedule import Action, Event


class Counts(str, enum.Enum):
    """What ``num_global_epochs`` counts."""

    ROUNDS = "rounds"
    UPDATES = "client updates"


class Scheduler(Protocol):
    """A state machine without threads, clock, sleep or input and output: events in, actions out.

    The same events give the same actions, so a journal of events replays a run. What whoever drives it keeps to:
    ``Started`` comes first and once; ``Aggregated`` follows an ``Aggregate`` before any other event; ``Timer``
    comes once for each ``WakeAt``, at its time or later; after ``Finish`` nothing is asked any more.

    A scheduler never keeps more updates waiting than two for each client, plus those of an aggregator that buffers.

    Attributes:
        counts: what ``num_global_epochs`` counts.
        waits_for_all: the first dispatch goes out when all clients have answered the greeting. Otherwise each
            client begins when it has, and is told of by ``ClientUp``.
    """

    @property
    def counts(self) -> Counts:
        """See the class."""

    @property
    def waits_for_all(self) -> bool:
        """See the class."""

    def step(self, now: float, event: Event) -> list[Action]:
        """Hear of ``event`` at ``now`` (seconds of the run, which never go back) and answer with what to do."""
