"""Events that a scheduler hears and actions that it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.wire import Json


@dataclass(frozen=True, order=True)
class UpdateId:
    """An update: whose, and from which of its dispatches (the call identity's round)."""

    client: str
    dispatch: int

    @classmethod
    def of(cls, identity: CallId) -> UpdateId:
        """The update that a call is to bring; that of dispatch 0 for a greeting, which brings none."""
        return cls(identity.client, identity.round)


@dataclass(frozen=True)
class UpdateMeta:
    """What scheduler and aggregator know of an accepted update.

    Attributes:
        update: which update.
        version: version of the global model that the client started from.
        sample_size: training examples at the client.
        steps: local steps really done.
        timing: queue, compute and transfer seconds.
        numbers: finite numbers that the client's trainer tells, such as metrics or an ADMM penalty. A site chose
            them: who uses one checks it.
        share: in (0, 1], the part of the work that was done before the site's job ended; 1 if all of it was. The
            update weighs that much less.
    """

    update: UpdateId
    version: int
    sample_size: int
    steps: int
    timing: Timing
    numbers: Mapping[str, float] = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True)
class Started:
    """The run begins.

    Attributes:
        clients: who takes part, in configuration order.
        awaited: those of them that are not up yet; ``ClientUp`` tells when each is. Always empty for a scheduler
            that ``waits_for_all``.
    """

    clients: tuple[str, ...]
    awaited: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arrived:
    """An update passed the gate and lies in a slot of the arena."""

    meta: UpdateMeta


@dataclass(frozen=True)
class Refused:
    """A client's dispatch brought no usable update and will not be tried again by the policy.

    ``replace``: another client is to take its place, where the scheduler has one that was not drawn.
    """

    update: UpdateId
    why: str
    replace: bool = False


@dataclass(frozen=True)
class Aggregated:
    """The global model has a new version: the event that follows an ``Aggregate``, before any other."""

    version: int


@dataclass(frozen=True)
class ClientDown:
    """A client takes no part until it is up again."""

    client: str


@dataclass(frozen=True)
class ClientUp:
    """A client takes part again."""

    client: str


@dataclass(frozen=True)
class Timer:
    """The time asked for by ``WakeAt`` has come."""


@dataclass(frozen=True)
class Stopping:
    """The run is to end as soon as may be."""


Event: TypeAlias = Started | Arrived | Refused | Aggregated | ClientDown | ClientUp | Timer | Stopping


@dataclass(frozen=True)
class Dispatch:
    """Send version ``version`` of the global model to ``client`` as its dispatch number ``dispatch``."""

    client: str
    dispatch: int
    version: int
    args: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """Fold these updates into the global model; each with its staleness in versions.

    The order is client order, and by dispatch where a client has several. It is the last of its step's actions.
    """

    updates: tuple[tuple[UpdateId, int], ...]


@dataclass(frozen=True)
class Hold:
    """Leave a client without work for now; ``why`` is for the display."""

    client: str
    why: str


@dataclass(frozen=True)
class Cancel:
    """A client's running dispatch is of no more use."""

    client: str
    dispatch: int


@dataclass(frozen=True)
class Release:
    """No dispatch will need this version of the global model any more."""

    version: int


@dataclass(frozen=True)
class WakeAt:
    """Send ``Timer`` at this second of the run."""

    at: float


@dataclass(frozen=True)
class Finish:
    """The run is done."""


Action: TypeAlias = Dispatch | Aggregate | Hold | Cancel | Release | WakeAt | Finish
