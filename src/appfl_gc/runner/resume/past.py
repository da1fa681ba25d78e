"""What a run had done when its server ended, as its journal says."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appfl_gc.protocol.errors import ErrorReport
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import Aggregate, Dispatch, Event, UpdateId, UpdateMeta
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.journal import Record
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.timers import Timers

MOST_ORPHANS = 1000
"""Payloads that are evicted once more at a resume: the server may have ended before it did."""


@dataclass(frozen=True)
class MetClient:
    """What a client said when it was greeted."""

    sample_size: int
    threads: int


@dataclass(frozen=True)
class UnansweredCall:
    """A call that was sent and neither answered nor given up.

    Attributes:
        update: client and dispatch.
        version: of the global model that it carries.
        attempt: its last one.
        fields: of that attempt's record.
        grants: the public parts of the grants of all attempts.
        task: the service's number of the last attempt, or "".
        failed: its last attempt.
        paused: the policy has it wait for the next attempt, and says when that is.
        checkpoint_steps: in the checkpoint that its site has told of.
        sent_at: second of the run at which its last attempt was sent.
    """

    update: UpdateId
    version: int
    attempt: int
    fields: Mapping[str, Any]
    grants: tuple[Mapping[str, Json], ...] = ()
    task: str = ""
    failed: bool = False
    paused: bool = False
    checkpoint_steps: int = 0
    sent_at: float = 0.0

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.update.client

    @property
    def endpoint(self) -> str:
        """Where the last attempt was sent."""
        return str(self.fields.get("endpoint") or "")


@dataclass(frozen=True)
class KeptUpdate:
    """An update that was accepted.

    Attributes:
        meta: what is known of it.
        reference: of its payload, in the store by which it came.
        file: name of the file among the payloads that has it; ``checksum`` is that file's.
        record: number of the journal's record that says so.
    """

    meta: UpdateMeta
    reference: Ref
    file: str
    checksum: str
    record: int


@dataclass(frozen=True)
class RoundsDone:
    """The books of the rounds after the last one."""

    rounds: int = 0
    updates: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    best_by: str | None = None


@dataclass
class PastRun:
    """A run up to where its journal ends.

    Attributes:
        directory: of the run.
        last: the journal's last record.
        seconds: of the run, at that record.
        run_id, program, seed, clients, threads, sources: as the run began; ``program`` is the version of this package.
        resumed: how often the run has been gone on with.
        orderly: the server ended the run itself, and told sites so.
        started: the scheduler has begun.
        finished: the scheduler was done.
        met: the clients that were greeted and answered.
        set_aside: clients that took no part.
        last_failure: of each client.
        version: of the newest global model.
        model: name of its file among the payloads.
        model_checksum: of that file.
        last_version: number of the record that tells of it; -1 for the initial one.
        released: versions that no new call needs.
        undone_grants: public parts of grants, by dispatch, of which the journal tells later than the run goes on from.
        wanted: what the scheduler dispatched and nobody had sent.
        open: calls in flight, by client.
        accepted: updates that were accepted and not folded.
        to_fold: an aggregation that was not done.
        to_finish: the last aggregation if its round's books were not closed.
        to_feed: what the scheduler had not heard of, in order.
        rounds: the books.
        latest: sample size and metrics of each client's last folded update.
        accepted_last, folded_last: number of each client's last dispatch that was accepted and folded.
        models: where each version that was not released lies in stores, and a client whose route leads there.
        orphans: payloads, by client, that were no longer needed.
        timers: that the scheduler had set and not heard of.
        answered: client and dispatch of every update that was accepted.
        unjudged: accepted updates of which the policy had not heard.
        version_judged: the newest version of which it had.
    """

    directory: RunDirectory
    last: Record = field(default_factory=lambda: Record(-1, 0.0, "", {}))
    run_id: str = ""
    program: str = ""
    seed: int = 0
    clients: tuple[str, ...] = ()
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    resumed: int = 0
    orderly: bool = False
    started: bool = False
    finished: bool = False
    met: dict[str, MetClient] = field(default_factory=dict)
    set_aside: set[str] = field(default_factory=set)
    last_failure: dict[str, ErrorReport] = field(default_factory=dict)
    version: int = 0
    model: str = ""
    model_checksum: str = ""
    last_version: int = -1
    released: set[int] = field(default_factory=set)
    undone_grants: dict[UpdateId, list[Mapping[str, Json]]] = field(default_factory=dict)
    wanted: dict[str, Dispatch] = field(default_factory=dict)
    open: dict[str, UnansweredCall] = field(default_factory=dict)
    accepted: dict[UpdateId, KeptUpdate] = field(default_factory=dict)
    to_fold: Aggregate | None = None
    to_finish: tuple[tuple[KeptUpdate, int], ...] = ()
    to_feed: list[Event] = field(default_factory=list)
    rounds: RoundsDone = field(default_factory=RoundsDone)
    latest: dict[str, tuple[int, Mapping[str, float]]] = field(default_factory=dict)
    accepted_last: dict[str, int] = field(default_factory=dict)
    folded_last: dict[str, int] = field(default_factory=dict)
    models: dict[int, dict[Ref, str]] = field(default_factory=dict)
    orphans: deque[tuple[str, Ref]] = field(default_factory=lambda: deque(maxlen=MOST_ORPHANS))
    timers: Timers[None] = field(default_factory=Timers)
    answered: set[tuple[str, int]] = field(default_factory=set)
    unjudged: set[UpdateId] = field(default_factory=set)
    version_judged: int = 0

    @property
    def seconds(self) -> float:
        """Of the run, at the journal's last record."""
        return self.last.at

    @property
    def model_file(self) -> Path:
        """The file of the newest global model."""
        return self.directory.payloads / self.model

    def why(self, client: str) -> str:
        """What was wrong with ``client`` last, or ""."""
        failure = self.last_failure.get(client)
        return "" if failure is None else failure.message

    @property
    def over(self) -> bool:
        """Whether nothing is left to do: the scheduler was done, and so was the server with what it does last."""
        return self.finished and self.orderly and not self.directory.payloads.exists()

    @property
    def began(self) -> bool:
        """Whether there is anything to go on with: the run was set up."""
        return bool(self.run_id)
