"""What the failure policy hears, and what it decides. Decisions are carried out in the order in which they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.policy.settings import PolicySettings


@dataclass(frozen=True)
class Configured:
    """How patient to be from here on: heard first of all, and again when a run is gone on with."""

    settings: PolicySettings


@dataclass(frozen=True)
class Met:
    """``client`` has answered the greeting."""

    client: str


@dataclass(frozen=True)
class Began:
    """Training begins: from here on a client's failure is weighed against what would be lost by ending the run."""


@dataclass(frozen=True)
class Sent:
    """A call of a dispatch goes out: the first attempt, or another.

    Told when the scheduler's dispatches are taken up, those of one step together, and not when each has its payload:
    what is lost before it is sent counts as failed, and a round must not be judged by a part of its calls.

    Attributes:
        update: which dispatch; told of a greeting (dispatch 0) or not, as is convenient.
        version: of the global model that it carries; where rounds are counted, those of one version are one round.
    """

    update: UpdateId
    version: int


@dataclass(frozen=True)
class Queued:
    """The attempt is known to wait for nodes: until ``Running`` no deadline counts. Not told where nobody knows."""

    update: UpdateId


@dataclass(frozen=True)
class Running:
    """The site has begun with ``update``: its time in queues is over. Not told where nobody knows."""

    update: UpdateId


@dataclass(frozen=True)
class Accepted:
    """The update has arrived and passed the gate."""

    update: UpdateId


@dataclass(frozen=True)
class Folded:
    """A round is over: the global model has version ``version``."""

    version: int


@dataclass(frozen=True)
class Failed:
    """A call failed.

    Attributes:
        update: the dispatch; with dispatch 0 the greeting.
        error_class: how. ``LATE`` is what the policy itself says of a missed deadline: it is given up at once.
        progressed: the site kept a checkpoint that is further than that of the attempt before.
    """

    update: UpdateId
    error_class: ErrorClass
    progressed: bool = False


@dataclass(frozen=True)
class Due:
    """The time asked for by ``WakeAt`` has come."""


@dataclass(frozen=True)
class Resumed:
    """Another process goes on with the run: clients that were set aside get a new chance.

    The answer has all that is still to be done: each ``Retry`` that was decided and not sent, ``GreetAgain``,
    ``WakeAt``. Greetings that were never answered are for whoever resumes.
    """


PolicyEvent: TypeAlias = (
    Configured | Met | Began | Sent | Queued | Running | Accepted | Folded | Failed | Due | Resumed
)


@dataclass(frozen=True)
class Retry:
    """Send the call of ``update`` again (dispatch 0: the greeting), not before second ``at`` of the run."""

    update: UpdateId
    at: float


@dataclass(frozen=True)
class GiveUp:
    """Nothing comes of ``update`` any more; its client still takes part.

    Attributes:
        update: which dispatch.
        error_class: why; ``LATE`` where it missed its deadline.
        replace: another client is to take its place.
    """

    update: UpdateId
    error_class: ErrorClass
    replace: bool = False


@dataclass(frozen=True)
class SetAside:
    """``client`` takes no part any more.

    Where it was at work, a ``GiveUp`` follows: the scheduler hears first that the client is down, so that a round
    which the refusal completes is followed by one without it. A ``GiveUp`` with ``replace`` precedes: its round must
    not end before the other client has its call.

    ``again_at``: second of the run at which it is greeted again; None for not at all in this process.
    """

    client: str
    again_at: float | None


@dataclass(frozen=True)
class GreetAgain:
    """``client`` was set aside and gets a new chance now; ``Met`` says that it took it."""

    client: str


@dataclass(frozen=True)
class EndRun:
    """Too little is left to go on with. ``why``: a sentence; ``hint``: what to do.

    It comes alone: the call whose failure ended the run (``update``) stays open, and a resumed run tries it again.
    """

    error_class: ErrorClass
    why: str
    hint: str = ""
    update: UpdateId | None = None


@dataclass(frozen=True)
class WakeAt:
    """Send ``Due`` at this second of the run."""

    at: float


Decision: TypeAlias = Retry | GiveUp | SetAside | GreetAgain | EndRun | WakeAt
