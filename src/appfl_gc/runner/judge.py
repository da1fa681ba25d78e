"""The failure policy with its journal: what it hears and decides is written down before it is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.clock import RunClock
from appfl_gc.runner.journal import POLICY, Journal
from appfl_gc.runner.policy.decisions import Decision, PolicyEvent
from appfl_gc.runner.policy.machine import FailurePolicy
from appfl_gc.runner.policy.policy_json import to_json


@dataclass(frozen=True)
class PolicyStep:
    """What the policy heard at second ``now`` of the run, and what it decided. ``number`` is the record's."""

    number: int
    now: float
    event: PolicyEvent
    decisions: tuple[Decision, ...]


class Judge:
    """Tells ``policy`` of events at the time of ``clock``."""

    def __init__(self, policy: FailurePolicy, clock: RunClock, journal: Journal) -> None:
        self.policy = policy
        self._clock = clock
        self._journal = journal

    def hear(self, event: PolicyEvent) -> list[Decision]:
        """What is to be done now, in order."""
        now = self._clock.tick()
        decisions = self.policy.step(now, event)
        self._journal.append(
            now, POLICY, now=now, event=to_json(event), decisions=[to_json(one) for one in decisions]
        )
        return decisions

    def replay(self, steps: Iterable[PolicyStep]) -> None:
        """Bring a new policy to where it was.

        Raises:
            UsageError: if it decides otherwise than it did.
        """
        for step in steps:
            decisions = self.policy.step(step.now, step.event)
            if decisions != list(step.decisions):
                raise UsageError(
                    f"The failure policy decides otherwise than it did: on record {step.number} of the journal "
                    f"({type(step.event).__name__}) it said {_said(step.decisions)} and now says {_said(decisions)}.",
                    "Another version of appfl_gc began the run: go on with that one.",
                )


def _said(decisions: Sequence[Decision]) -> str:
    return ", ".join(str(decision) for decision in decisions)[:300] or "nothing"
