"""Events, and a way to play them to a scheduler."""

from __future__ import annotations

from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import (
    Action,
    Aggregate,
    Aggregated,
    Arrived,
    Event,
    Refused,
    UpdateId,
    UpdateMeta,
)
from appfl_gc.scheduler.base import Scheduler


def arrived(
    client: str,
    dispatch: int,
    *,
    steps: int = 10,
    train: float = 10.0,
    queue: float = 0.0,
    transfer: float = 0.0,
    load: float = 0.0,
) -> Arrived:
    """An update; times in seconds."""
    timing = Timing(queue=queue, compute=train + load, transfer=transfer, train=train)
    # No scheduler relies on the version that stands here: it knows what it sent.
    return Arrived(UpdateMeta(UpdateId(client, dispatch), 0, 10, steps, timing))


def refused(client: str, dispatch: int) -> Refused:
    return Refused(UpdateId(client, dispatch), "not finite")


def folded(*updates: tuple[str, int, int]) -> Aggregate:
    """Of (client, dispatch, staleness)."""
    return Aggregate(tuple((UpdateId(client, dispatch), behind) for client, dispatch, behind in updates))


def play(scheduler: Scheduler, *events: Event, at: float = 0.0) -> list[Action]:
    """The actions of the last event."""
    actions: list[Action] = []
    for event in events:
        actions = scheduler.step(at, event)
    return actions


class Server:
    """Plays events to a scheduler and folds when it says so, as the runner does: at once."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.version = 0
        self.folds: list[Aggregate] = []

    def hear(self, at: float, event: Event) -> list[Action]:
        """All actions up to the next wait, without ``Aggregate``, which ``folds`` has."""
        actions = self.scheduler.step(at, event)
        while actions:
            fold = actions[-1]
            if not isinstance(fold, Aggregate):
                break
            self.folds.append(fold)
            self.version += 1
            actions = [*actions[:-1], *self.scheduler.step(at, Aggregated(self.version))]
        return actions
