"""The failure policy with its journal: what it hears and decides is written down before it is done."""

from __future__ import annotations

from appfl_gc.runner.clock import RunClock
from appfl_gc.runner.journal import POLICY, Journal
from appfl_gc.runner.policy.decisions import Decision, PolicyEvent
from appfl_gc.runner.policy.machine import FailurePolicy
from appfl_gc.runner.policy.policy_json import to_json


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
