"""Replaying a journal: recorded events, fed to a new scheduler or failure policy, must bring the recorded answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

from appfl_gc.protocol.schedule import Action, Event
from appfl_gc.protocol.schedule_json import action_from_json, event_from_json
from appfl_gc.protocol.wire import Json, WireError
from appfl_gc.runner.journal import POLICY, STEP, JournalError, read_journal
from appfl_gc.runner.policy import policy_json
from appfl_gc.runner.policy.decisions import Decision, PolicyEvent

Heard = TypeVar("Heard")
Said = TypeVar("Said")
HeardContra = TypeVar("HeardContra", contravariant=True)


@dataclass(frozen=True)
class Step(Generic[Heard, Said]):
    """What a state machine heard at second ``now`` of the run, and what it answered. ``number`` is the record's."""

    number: int
    now: float
    event: Heard
    actions: tuple[Said, ...]


SchedulerStep: TypeAlias = Step[Event, Action]
PolicyStep: TypeAlias = Step[PolicyEvent, Decision]


@dataclass(frozen=True)
class Difference(Generic[Heard, Said]):
    """A step at which a state machine answered something else than the journal says."""

    recorded: Step[Heard, Said]
    actions: tuple[Said, ...]


class Machine(Protocol[HeardContra, Said]):
    """A scheduler or a failure policy."""

    def step(self, now: float, event: HeardContra) -> list[Said]:
        """Hear of ``event`` at second ``now`` of the run."""


def recorded_steps(path: Path) -> Iterator[SchedulerStep]:
    """The scheduler's steps in the journal ``path``, in order.

    Raises:
        JournalError: if the journal is damaged, of another version, or a step of it can't be read.
    """
    return _steps(path, STEP, "a scheduler", event_from_json, "actions", action_from_json)


def policy_steps(path: Path) -> Iterator[PolicyStep]:
    """The failure policy's steps in the journal ``path``, in order; raises as ``recorded_steps``."""
    return _steps(
        path,
        POLICY,
        "the policy",
        policy_json.event_from_json,
        "decisions",
        policy_json.decision_from_json,
    )


def _steps(
    path: Path,
    kind: str,
    whose: str,
    event_of: Callable[[Json], Heard],
    answers: str,
    answer_of: Callable[[Json], Said],
) -> Iterator[Step[Heard, Said]]:
    for record in read_journal(path, [kind]):
        if record.kind != kind:
            continue
        fields = record.fields
        try:
            said = tuple(answer_of(answer) for answer in fields[answers])
            yield Step(record.number, float(fields["now"]), event_of(fields["event"]), said)
        except (WireError, LookupError, TypeError, ValueError, OverflowError) as error:
            raise JournalError(f"Record {record.number} of {path} is no step of {whose}: {error}") from None


def first_difference(
    steps: Iterable[Step[Heard, Said]], machine: Machine[Heard, Said]
) -> Difference[Heard, Said] | None:
    """Feed ``steps`` to ``machine``, which is new; the first that it answers otherwise, or None."""
    for step in steps:
        actions = tuple(machine.step(step.now, step.event))
        if actions != step.actions:
            return Difference(step, actions)
    return None
