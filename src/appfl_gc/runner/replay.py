"""Replaying a journal: the recorded events, fed to a scheduler anew, must bring the recorded actions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.protocol.schedule import Action, Event
from appfl_gc.protocol.schedule_json import action_from_json, event_from_json
from appfl_gc.protocol.wire import WireError
from appfl_gc.runner.journal import STEP, JournalError, read_journal
from appfl_gc.scheduler.base import Scheduler


@dataclass(frozen=True)
class Step:
    """What a scheduler heard at second ``now`` of the run, and what it answered. ``number`` is the record's."""

    number: int
    now: float
    event: Event
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Difference:
    """A step at which a scheduler answered something else than the journal says."""

    recorded: Step
    actions: tuple[Action, ...]


def recorded_steps(path: Path) -> Iterator[Step]:
    """The scheduler's steps in the journal ``path``, in order.

    Raises:
        JournalError: if the journal is damaged, of another version, or a step of it can't be read.
    """
    for record in read_journal(path, [STEP]):
        if record.kind != STEP:
            continue
        fields = record.fields
        try:
            actions = tuple(action_from_json(action) for action in fields["actions"])
            yield Step(record.number, float(fields["now"]), event_from_json(fields["event"]), actions)
        except (WireError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise JournalError(
                f"Record {record.number} of {path} is no step of a scheduler: {error}"
            ) from None


def first_difference(steps: Iterator[Step] | Sequence[Step], scheduler: Scheduler) -> Difference | None:
    """Feed ``steps`` to ``scheduler``, which is new; the first that it answers otherwise, or None."""
    for step in steps:
        actions = tuple(scheduler.step(step.now, step.event))
        if actions != step.actions:
            return Difference(step, actions)
    return None
