"""What a run tells its callbacks: the only way that displays and trackers learn of it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from appfl_gc.control.globus_compute.endpoints.facts import EndpointState
from appfl_gc.protocol.errors import ErrorReport
from appfl_gc.protocol.measures import Timing
from appfl_gc.scheduler.base import Counts


class ClientState(str, enum.Enum):
    """What a client is doing, as far as the server knows."""

    CONNECTING = "connecting"
    READY = "ready"
    SENT = "sent"
    NO_LOGIN = "no login"
    OFFLINE = "offline"
    QUEUED = "queued"
    WORKING = "working"
    RETRYING = "retrying"
    ARRIVED = "arrived"
    WAITING = "waiting"
    SET_ASIDE = "set aside"


@dataclass(frozen=True)
class RunStarted:
    """The configuration is accepted; nothing has been sent yet.

    ``epochs`` is ``num_global_epochs``, which counts what ``counts`` says. A run that is gone on with has done
    ``rounds_done`` rounds and folded ``updates_done`` updates before.
    """

    run_id: str
    run_dir: Path
    clients: tuple[str, ...]
    epochs: int
    model_bytes: int
    parameters: int
    counts: Counts = Counts.ROUNDS
    rounds_done: int = 0
    updates_done: int = 0


@dataclass(frozen=True)
class EndpointRow:
    """One endpoint before the first task, as one identity sees it; texts that the service told are cleaned.

    ``clients`` are at it; ``detail`` says why calls can't go there, or ""; ``name`` and ``agent_version`` are ""
    where the service does not tell them.
    """

    endpoint_id: str
    name: str
    clients: tuple[str, ...]
    state: EndpointState
    detail: str = ""
    agent_version: str = ""


@dataclass(frozen=True)
class EndpointsChecked:
    """What the endpoints are like, before the first task: at once, at each change, now and then while waiting.

    The run waits for those that are offline, ``wait_seconds`` in all, of which ``waited`` are over.
    """

    rows: tuple[EndpointRow, ...]
    waited: float
    wait_seconds: float

    @property
    def waits_for(self) -> tuple[EndpointRow, ...]:
        """The endpoints that the run waits for."""
        return tuple(row for row in self.rows if row.state.may_change)


@dataclass(frozen=True)
class ClientChanged:
    """A client's state changed. ``bytes_down``/``bytes_up`` are payload bytes of the call that ended."""

    client: str
    state: ClientState
    round: int = 0
    detail: str = ""
    bytes_down: int = 0
    bytes_up: int = 0


@dataclass(frozen=True)
class PayloadMoving:
    """A payload that takes its time: ``done`` bytes of ``size`` have moved (0: the size is not known).

    ``client`` sends its update; "" for the global model on its way out.
    """

    client: str
    what: str
    done: int
    size: int


@dataclass(frozen=True)
class TaskProgressed:
    """A site has told how far its task of ``round`` is: ``steps`` done of ``planned`` (0: not known)."""

    client: str
    round: int
    steps: int
    planned: int


@dataclass(frozen=True)
class ClientTrained:
    """An update was accepted: the row of ``metrics.jsonl`` for this client and round."""

    client: str
    round: int
    steps: int
    sample_size: int
    timing: Timing
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundStarted:
    """A round begins, from 1. Told only where ``num_global_epochs`` counts rounds."""

    round: int


@dataclass(frozen=True)
class RoundFinished:
    """The global model has a new version: the row of ``metrics.jsonl`` for this round.

    ``round`` is that version's number; ``updates`` of clients have been folded so far, in all rounds. ``seconds`` count
    from the round's begin, or from the version before. ``metrics`` are means over clients weighted by sample size,
    and ``server_val_*`` if the server validates.
    """

    round: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    improved: bool = False
    updates: int = 0


@dataclass(frozen=True)
class ClientFailed:
    """A call of a client failed; it is not tried again if that is ``final``."""

    client: str
    round: int
    error: ErrorReport
    final: bool


@dataclass(frozen=True)
class Logged:
    """A line for the log: of the server (client "") or of a client's site. ``level`` as in ``logging``."""

    message: str
    level: int = 20
    client: str = ""


class Outcome(str, enum.Enum):
    """How a run ended."""

    FINISHED = "finished"
    PARTIAL = "finished without some clients"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class RunFinished:
    """The run is over and everything is saved."""

    outcome: Outcome
    run_dir: Path
    model_path: Path | None
    metrics: Mapping[str, float]
    seconds: float
    rounds: int
    error: ErrorReport | None = None


RunEvent: TypeAlias = (
    RunStarted
    | EndpointsChecked
    | ClientChanged
    | PayloadMoving
    | TaskProgressed
    | ClientTrained
    | RoundStarted
    | RoundFinished
    | ClientFailed
    | Logged
    | RunFinished
)


class Callback(Protocol):
    """Attach one to ``run(..., callbacks=[...])``. It is called from the run's thread, in order.

    An exception that it raises is logged once and the callback is dropped; the run goes on.
    """

    def on_event(self, event: RunEvent) -> None:
        """Hear of one event."""
