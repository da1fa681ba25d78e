"""The one queue of a run, and what may lie in it."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

from appfl_gc.control.plane import Progress
from appfl_gc.payload.mailbox.base import ServerMailbox, TaskProgress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport
from appfl_gc.protocol.reply import Reply
from appfl_gc.runner.flight import Landing


@dataclass(frozen=True)
class Answered:
    """A call has its reply, or the control plane's reason why there is none. ``at``: monotonic seconds."""

    call: Call
    reply: Reply | None
    error: ErrorReport | None
    at: float

    @classmethod
    def of(cls, call: Call, future: Future[Reply], at: float) -> Answered:
        """From the control plane's future, which is done."""
        failure = future.exception()
        if failure is None:
            reply = future.result()
            return cls(call, reply, reply.error, at)
        if isinstance(failure, AppflGcError):
            return cls(call, None, failure.report, at)
        return cls(
            call, None, ErrorReport(ErrorClass.INTERNAL, f"The control plane failed: {failure!r}."), at
        )


@dataclass(frozen=True)
class Progressed:
    """A call in flight got further. ``at``: monotonic seconds."""

    progress: Progress
    at: float


@dataclass(frozen=True)
class Interrupted:
    """Somebody asked the run to end: ``signal`` names who or how."""

    signal: str


@dataclass(frozen=True)
class Displaced:
    """Another server has taken the run: this one must touch nothing of it any more. ``message``: a sentence."""

    message: str


@dataclass(frozen=True)
class Told:
    """A site has let the server know how far the call is."""

    call: Call
    progress: TaskProgress


@dataclass(frozen=True)
class Prepared:
    """A call has its model and its grant and can be sent, or ``error`` says why not.

    ``version`` is the version of the global model that it carries.
    """

    call: Call
    version: int
    error: ErrorReport | None
    mailbox: ServerMailbox | None = None


@dataclass(frozen=True)
class Landed:
    """An update has its slot, passed the gate and is kept, or ``error`` says why not. ``seconds``: how long it took."""

    landing: Landing
    seconds: float
    error: ErrorReport | None


@dataclass(frozen=True)
class Moved:
    """Of a payload ``done`` bytes of ``size`` have moved; ``client`` is "" for the global model, size 0 unknown."""

    client: str
    what: str
    done: int
    size: int


@dataclass(frozen=True)
class Noticed:
    """Something for the log that changes nothing."""

    message: str


Item: TypeAlias = (
    Answered | Progressed | Interrupted | Displaced | Told | tuple[Prepared, ...] | Landed | Moved | Noticed
)
Inbox: TypeAlias = "queue.SimpleQueue[Item]"
