"""Reading the journal of a run whose server ended: one function for each kind of record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from appfl_gc.protocol.errors import ErrorReport, UsageError
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
    WakeAt,
)
from appfl_gc.protocol.schedule_json import action_from_json, event_from_json, meta_from_json
from appfl_gc.protocol.wire import WireError
from appfl_gc.runner.calls import HELLO_ROUND
from appfl_gc.runner.journal import POLICY, STEP, JournalError, Record, read_journal
from appfl_gc.runner.policy import decisions
from appfl_gc.runner.policy.policy_json import decision_from_json
from appfl_gc.runner.policy.policy_json import event_from_json as policy_event_from_json
from appfl_gc.runner.resume.past import KeptUpdate, MetClient, PastRun, RoundsDone, UnansweredCall
from appfl_gc.runner.run_directory import RunDirectory


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
        if before is not None and record.number >= before:
            _undone(past, record)
            continue
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
    past.met[client] = MetClient(int(record.fields["sample_size"]), int(record.fields["threads"]))
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
    past.open[update.client] = UnansweredCall(
        update, int(fields["version"]), attempt, fields, grants, checkpoint_steps=steps, sent_at=record.at
    )


def _undone(past: PastRun, record: Record) -> None:
    """A site may answer by what it was granted in a record that does not count any more."""
    grant = record.fields.get("grant")
    if record.kind in ("dispatch", "retry") and isinstance(grant, dict):
        update = UpdateId(str(record.fields["client"]), int(record.fields["round"]))
        past.undone_grants.setdefault(update, []).append(grant)


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
    past.last_failure[client] = ErrorReport.from_json(fields["error"])
    call = past.open.get(client)
    if call is not None and call.update.dispatch == fields["round"]:
        steps = max(call.checkpoint_steps, int(fields.get("checkpoint_steps") or 0))
        past.open[client] = replace(call, failed=True, checkpoint_steps=steps)


def _pause(past: PastRun, update: UpdateId, *, paused: bool) -> None:
    call = past.open.get(update.client)
    if call is not None and call.update == update:
        past.open[call.client] = replace(call, paused=paused)


def _policy(past: PastRun, record: Record) -> None:
    event = policy_event_from_json(record.fields["event"])
    match event:
        case decisions.Accepted():
            past.unjudged.discard(event.update)
        case decisions.Folded():
            past.version_judged = event.version
        case decisions.Failed():
            _pause(past, event.update, paused=True)
        case decisions.Sent():
            _pause(past, event.update, paused=False)
    for item in record.fields["decisions"]:
        decision = decision_from_json(item)
        if isinstance(decision, decisions.Retry):
            _pause(past, decision.update, paused=True)
        elif isinstance(decision, decisions.GiveUp):
            given_up = past.open.get(decision.update.client)
            if given_up is not None and given_up.update == decision.update:
                del past.open[given_up.client]
            past.wanted.pop(decision.update.client, None)
            if past.started and decision.update.dispatch != HELLO_ROUND:
                why = past.why(decision.update.client)
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
