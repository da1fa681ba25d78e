"""A call that something may still come of, and the clock of its deadline."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.calls import HELLO_ROUND

MOST_FORGIVEN = 200
"""How often a call is forgiven its failures for getting further.

A task that needs so many jobs is hardly one: 200 jobs of six hours are seven weeks. A site that only says that it gets
further can say so every few seconds. After that its failures count, and their growing pauses end in hours.
"""


class Stage(enum.Enum):
    """Where a call is."""

    SENT = "sent"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass
class AwaitedCall:
    """A dispatch, or a greeting, over all its attempts.

    The deadline counts from the first attempt, pauses before retries included; what is known to be time in a queue
    does not count.

    Attributes:
        update: which dispatch.
        version: of the global model that it carries.
        sent_at: second of the run at which its present attempt went out.
        left: seconds to the deadline when the present attempt was sent; None if there is none.
        due_at: second of the run at which it is late; None while it waits in a queue, or if there is no deadline.
        stage: where it is.
        late: a deadline of it has passed: its round does without it as soon as it can.
        retry_at: while it is paused, when it is sent again.
        failures: of each class since it last got further.
        in_a_row: how many these are together.
        forgiven: how often it got further.
    """

    update: UpdateId
    version: int
    sent_at: float
    left: float | None
    due_at: float | None
    stage: Stage = Stage.SENT
    late: bool = False
    retry_at: float = 0.0
    failures: Counter[ErrorClass] = field(default_factory=Counter)
    in_a_row: int = 0
    forgiven: int = 0

    @property
    def greeting(self) -> bool:
        """Whether it asks a client whether it is there."""
        return self.update.dispatch == HELLO_ROUND

    def sent(self, now: float) -> None:
        """Another attempt goes out."""
        self.stage = Stage.SENT
        self.sent_at = now
        if self.due_at is None:
            self._count_from(now)
        else:
            self.left = self.due_at - now

    def queued(self, now: float) -> None:
        """It turns out to wait in a queue, at first or again: what passed since it was sent, or passes, is no work."""
        over = self.due_at is not None and self.due_at <= now
        if over or self.stage not in (Stage.SENT, Stage.RUNNING):
            return
        if self.stage is Stage.RUNNING and self.due_at is not None:
            self.left = self.due_at - now
        self.stage = Stage.QUEUED
        self.due_at = None

    def running(self, now: float) -> None:
        """The site has begun: what passed since it was sent does not count."""
        if self.stage in (Stage.SENT, Stage.QUEUED):
            self.stage = Stage.RUNNING
            self._count_from(now)

    def failed(self, now: float, error_class: ErrorClass) -> None:
        """This attempt has failed."""
        self.stage = Stage.PAUSED
        self.failures[error_class] += 1
        self.in_a_row += 1
        if self.due_at is None:
            self._count_from(now)

    def missed(self, limit: float | None) -> None:
        """Its deadline has passed, and it is tried again: ``limit`` seconds are left from when it is sent."""
        self.failures[ErrorClass.LATE] += self.stage is not Stage.PAUSED
        self.stage = Stage.PAUSED
        self.due_at, self.left = None, limit

    def got_further(self) -> bool:
        """Failures so far do not count any more, since its site kept more work; whether this is still believed."""
        if self.forgiven >= MOST_FORGIVEN:
            return False
        self.forgiven += 1
        self.forgive()
        return True

    def forgive(self) -> None:
        """Failures so far do not count any more."""
        self.failures.clear()
        self.in_a_row = 0

    def begin_anew(self, now: float, limit: float | None) -> None:
        """Another process goes on: failures and the time so far do not count, and ``limit`` seconds are left."""
        self.forgive()
        self.forgiven = 0
        self.late = False
        self.left = limit
        if self.stage is not Stage.PAUSED:
            self.stage = Stage.SENT
        self._count_from(now)

    def _count_from(self, now: float) -> None:
        if self.left is not None:
            self.due_at = now + self.left
