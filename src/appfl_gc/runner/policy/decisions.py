"""What the failure policy hears, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.schedule import UpdateId


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

    Attributes:
        update: which dispatch.
        version: of the global model that it carries; where rounds are counted, those of one version are one round.
    """

    update: UpdateId
    version: int


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
        error_class: how.
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
    """Another process goes on with the run: clients that were set aside get a new chance."""


PolicyEvent: TypeAlias = Met | Began | Sent | Running | Accepted | Folded | Failed | Due | Resumed


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
        cancel: the site may still be at it and is to stop.
    """

    update: UpdateId
    error_class: ErrorClass
    replace: bool = False
    cancel: bool = False


@dataclass(frozen=True)
class SetAside:
    """``client`` takes no part any more; where it was at work, a ``GiveUp`` precedes.

    ``again_at``: second of the run at which it is greeted again; None for not at all.
    """

    client: str
    again_at: float | None


@dataclass(frozen=True)
class GreetAgain:
    """``client`` was set aside and gets a new chance now; ``Met`` says that it took it."""

    client: str


@dataclass(frozen=True)
class EndRun:
    """Too little is left to go on with. ``why``: a sentence; ``hint``: what to do."""

    error_class: ErrorClass
    why: str
    hint: str = ""


@dataclass(frozen=True)
class WakeAt:
    """Send ``Due`` at this second of the run."""

    at: float


Decision: TypeAlias = Retry | GiveUp | SetAside | GreetAgain | EndRun | WakeAt
