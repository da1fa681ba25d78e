"""What a run had done when its server ended, as its journal says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import (
    Aggregate,
    Aggregated,
    Arrived,
    ClientDown,
    ClientUp,
    Dispatch,
    Event,
    Finish,
    Refused,
    Release,
    Started,
    Timer,
    UpdateId,
    UpdateMeta,
    WakeAt,
)
from appfl_gc.protocol.schedule_json import action_from_json, event_from_json, meta_from_json
from appfl_gc.protocol.wire import Json, WireError
from appfl_gc.runner.calls import HELLO_ROUND
from appfl_gc.runner.journal import POLICY, STEP, JournalError, Record, read_journal
from appfl_gc.runner.policy import decisions
from appfl_gc.runner.policy.policy_json import decision_from_json
from appfl_gc.runner.policy.policy_json import event_from_json as policy_event_from_json
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.timers import Timers

MOST_ORPHANS = 1000
"""Payloads that are evicted once more at a resume: the server may have ended before it did."""


@dataclass(frozen=True)
class Met:
    """What a client said when it was greeted."""

    sample_size: int
    threads: int


@dataclass(frozen=True)
class OpenCall:
    """A call that was sent and neither answered nor given up.

    Attributes:
        update: client and dispatch.
        version: of the global model that it carries.
        attempt: its last one.
        fields: of that attempt's record.
        grants: the public parts of the grants of all attempts.
        task: the service's number of the last attempt, or "".
        retry: it has failed, and the policy knows.
        checkpoint_steps: in the checkpoint that its site has told of.
    """

    update: UpdateId
    version: int
    attempt: int
    fields: Mapping[str, Any]
    grants: tuple[Mapping[str, Json], ...] = ()
    task: str = ""
    retry: bool = False
    checkpoint_steps: int = 0

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.update.client


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
        why_aside: why, where the journal says.
        version: of the newest global model.
        model: name of its file among the payloads.
        model_checksum: of that file.
        last_version: number of the record that tells of it; -1 for the initial one.
        released: versions that no new call needs.
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
    met: dict[str, Met] = field(default_factory=dict)
    set_aside: set[str] = field(default_factory=set)
    why_aside: dict[str, str] = field(default_factory=dict)
    version: int = 0
    model: str = ""
    model_checksum: str = ""
    last_version: int = -1
    released: set[int] = field(default_factory=set)
    wanted: dict[str, Dispatch] = field(default_factory=dict)
    open: dict[str, OpenCall] = field(default_factory=dict)
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

    @property
    def began(self) -> bool:
        """Whether there is anything to go on with: the run was set up."""
        return bool(self.run_id)


def read_past(directory: RunDirectory, before: int | None = None) -> PastRun:
    """Read the journal of ``directory``.

    Args:
        directory: of the run.
        before: read up to this record, without it; None for all.

    Raises:
        UsageError: if it is not the directory of a run.
        JournalError: if the journal is damaged, or of another version.
    """
    if not directory.journal.is_file():
        raise UsageError(
            f"{directory.path} is not the directory of a run: it has no {directory.journal.name}.",
            "Name the directory that `appfl-gc run` shows, such as output/2026-11-21-09-30-00-1f3a9c.",
        )
    past = PastRun(directory)
    for record in read_journal(directory.journal):
        if record.number == before:
            break
        reader = _READERS.get(record.kind)
        past.last = record
        past.orderly = record.kind == "finished"
        if reader is None:
            continue
        try:
            reader(past, record)
        except (WireError, LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise JournalError(
                f"Record {record.number} ({record.kind}) of {directory.journal} can't be understood: {error!r}.",
                "It was written by another version of appfl_gc, or is damaged.",
            ) from None
    return past


def policy_events(path: Path) -> Iterator[tuple[float, decisions.PolicyEvent]]:
    """What the failure policy heard, and when, in the order of the journal ``path``.

    Raises:
        JournalError: if the journal is damaged.
    """
    for record in read_journal(path, [POLICY]):
        if record.kind == POLICY:
            try:
                yield float(record.fields["now"]), policy_event_from_json(record.fields["event"])
            except (WireError, LookupError, TypeError, ValueError, OverflowError) as error:
                raise JournalError(
                    f"Record {record.number} of {path} is no step of the policy: {error}"
                ) from None


# One function a kind of record


def _run(past: PastRun, record: Record) -> None:
    fields = record.fields
    past.run_id, past.program, past.seed = str(fields["run"]), str(fields["version"]), int(fields["seed"])
    past.model, past.model_checksum = str(fields["model"]), str(fields["checksum"])
    past.clients = tuple(str(client) for client in fields["clients"])
    past.sources = {
        str(client): {str(kind): str(text) for kind, text in of.items()}
        for client, of in fields["sources"].items()
    }


def _resumed(past: PastRun, record: Record) -> None:
    past.resumed = int(record.fields["number"])


def _hello(past: PastRun, record: Record) -> None:
    client = str(record.fields["client"])
    past.met[client] = Met(int(record.fields["sample_size"]), int(record.fields["threads"]))
    past.set_aside.discard(client)
    past.open.pop(client, None)
    if past.started:
        past.to_feed.append(ClientUp(client))


def _sent(past: PastRun, record: Record) -> None:
    fields = record.fields
    update, attempt = UpdateId(str(fields["client"]), int(fields["round"])), int(fields["attempt"])
    if update.dispatch == HELLO_ROUND:
        return
    before = past.open.get(update.client)
    same = before is not None and before.update == update
    grants = before.grants if before is not None and same else ()
    steps = before.checkpoint_steps if before is not None and same else 0
    if isinstance(fields.get("grant"), dict):
        grants = (*grants, fields["grant"])
    past.wanted.pop(update.client, None)
    if isinstance(fields.get("model_at"), dict):
        model = Ref.from_json(fields["model_at"])
        past.models.setdefault(int(fields["version"]), {})[model] = update.client
    past.open[update.client] = OpenCall(
        update, int(fields["version"]), attempt, fields, grants, checkpoint_steps=steps
    )


def _task(past: PastRun, record: Record) -> None:
    client, fields = str(record.fields["client"]), record.fields
    call = past.open.get(client)
    if call is not None and (call.update.dispatch, call.attempt) == (fields["round"], fields["attempt"]):
        past.open[client] = replace(call, task=str(fields["task"]))


def _arrived(past: PastRun, record: Record) -> None:
    fields = record.fields
    meta = meta_from_json(fields["meta"])
    reference = Ref.from_json(fields["reference"])
    past.open.pop(meta.update.client, None)
    past.answered.add((meta.update.client, meta.update.dispatch))
    past.unjudged.add(meta.update)
    past.accepted[meta.update] = KeptUpdate(
        meta, reference, str(fields["kept"]), str(fields["kept_checksum"]), record.number
    )
    past.accepted_last[meta.update.client] = meta.update.dispatch
    past.to_feed.append(Arrived(meta))


def _failed(past: PastRun, record: Record) -> None:
    fields = record.fields
    client = str(fields["client"])
    past.why_aside[client] = str(fields["message"])
    call = past.open.get(client)
    if call is not None and call.update.dispatch == fields["round"]:
        steps = max(call.checkpoint_steps, int(fields.get("checkpoint_steps") or 0))
        past.open[client] = replace(call, checkpoint_steps=steps)


def _policy(past: PastRun, record: Record) -> None:
    event = policy_event_from_json(record.fields["event"])
    match event:
        case decisions.Accepted():
            past.unjudged.discard(event.update)
        case decisions.Folded():
            past.version_judged = event.version
        case decisions.Failed():
            call = past.open.get(event.update.client)
            if call is not None and call.update == event.update:
                past.open[call.client] = replace(call, retry=True)
    for item in record.fields["decisions"]:
        decision = decision_from_json(item)
        if isinstance(decision, decisions.GiveUp):
            given_up = past.open.get(decision.update.client)
            if given_up is not None and given_up.update == decision.update:
                del past.open[given_up.client]
            past.wanted.pop(decision.update.client, None)
            if past.started and decision.update.dispatch != HELLO_ROUND:
                why = past.why_aside.get(decision.update.client, "")
                past.to_feed.append(Refused(decision.update, why, decision.replace))
        elif isinstance(decision, decisions.SetAside):
            past.set_aside.add(decision.client)
            if past.latest.pop(decision.client, None) is not None:
                past.rounds = replace(past.rounds, best=None)
            if past.started:
                past.to_feed.append(ClientDown(decision.client))


def _step(past: PastRun, record: Record) -> None:
    event = event_from_json(record.fields["event"])
    match event:
        case Started():
            past.started = True
        case Timer():
            past.timers.take_first()
        case _:
            past.to_feed = [other for other in past.to_feed if not _same(other, event)]
    for item in record.fields["actions"]:
        action = action_from_json(item)
        match action:
            case Dispatch():
                past.wanted[action.client] = action
            case Aggregate():
                past.to_fold = action
            case WakeAt():
                past.timers.set(action.at, None)
            case Release():
                past.released.add(action.version)
                past.orphans.extend((to, model) for model, to in past.models.pop(action.version, {}).items())
            case Finish():
                past.finished = True


def _same(waiting: Event, heard: Event) -> bool:
    """Whether ``heard`` is what the scheduler was ``waiting`` to be told; reasons may be worded otherwise."""
    if isinstance(waiting, Refused) and isinstance(heard, Refused):
        return waiting.update == heard.update
    if isinstance(waiting, Arrived) and isinstance(heard, Arrived):
        return waiting.meta.update == heard.meta.update
    return waiting == heard


def _aggregated(past: PastRun, record: Record) -> None:
    fields = record.fields
    past.version, past.model, past.to_fold = int(fields["version"]), str(fields["model"]), None
    past.model_checksum = str(fields["checksum"])
    past.last_version = record.number
    folded = []
    for client, dispatch, behind in fields["updates"]:
        kept = past.accepted.pop(UpdateId(str(client), int(dispatch)))
        folded.append((kept, int(behind)))
        past.folded_last[kept.meta.update.client] = kept.meta.update.dispatch
        past.orphans.append((kept.meta.update.client, kept.reference))
    past.to_finish = tuple(folded)
    past.to_feed.append(Aggregated(past.version))


def _round(past: PastRun, record: Record) -> None:
    fields = record.fields
    metrics = {str(name): float(value) for name, value in fields["metrics"].items()}
    best, by = fields["best"], fields["best_by"]
    past.rounds = RoundsDone(
        int(fields["round"]),
        int(fields["updates"]),
        metrics,
        None if best is None else float(best),
        None if by is None else str(by),
    )
    for kept, _ in past.to_finish:
        past.latest[kept.meta.update.client] = (kept.meta.sample_size, kept.meta.numbers)
    past.to_finish = ()


_READERS: Mapping[str, Callable[[PastRun, Record], None]] = {
    "run": _run,
    "resumed": _resumed,
    "hello": _hello,
    "dispatch": _sent,
    "retry": _sent,
    "task": _task,
    "arrived": _arrived,
    "failed": _failed,
    POLICY: _policy,
    STEP: _step,
    "aggregated": _aggregated,
    "round": _round,
}
