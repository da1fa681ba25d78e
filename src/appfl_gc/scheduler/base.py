"""What a scheduler is."""

from __future__ import annotations

from typing import Protocol

from appfl_gc.protocol.schedule import Action, Event


class Scheduler(Protocol):
    """A state machine without threads, clock, sleep or input and output: events in, actions out.

    The same events give the same actions, so a journal of events replays a run.
    """

    def step(self, now: float, event: Event) -> list[Action]:
        """Hear of ``event`` at ``now`` (seconds of the run, which never go back) and answer with what to do."""
