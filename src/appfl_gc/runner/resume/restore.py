"""Bringing a run to where it was: what the journal says is done is done, what it says was decided is done now."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterable, Mapping
from functools import partial

from appfl_gc.payload.arena import Arena
from appfl_gc.payload.grants import large_part
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.errors import ErrorClass, ErrorReport, TransferError, UpdateRefusedError, UsageError
from appfl_gc.protocol.schedule import Aggregated, Event, Timer, UpdateId
from appfl_gc.runner.events import ClientChanged, ClientState, RoundStarted
from appfl_gc.runner.failures import FailedCall
from appfl_gc.runner.federated_run import FederatedRun
from appfl_gc.runner.flight import InFlight
from appfl_gc.runner.intake import Accepted
from appfl_gc.runner.parts import Parts
from appfl_gc.runner.policy import decisions as judged
from appfl_gc.runner.replay import Heard, Machine, Said, Step, first_difference, policy_steps, recorded_steps
from appfl_gc.runner.resume.past import PastRun, UnansweredCall
from appfl_gc.runner.resume.reading import read_past
from appfl_gc.runner.slots import Slots
from appfl_gc.scheduler.base import Counts
from appfl_gc.version import VERSION

_OTHER_SCHEDULER = (
    "Its class, its settings or num_global_epochs have changed. Where client updates are counted their number can't "
    "be changed any more once the last ones are out: go on without that change. A scheduler of your own must be a "
    "function of its events alone."
)
_OTHER_PROGRAM = "Another version of appfl_gc began the run: go on with that one."
_UNKNOWN = ErrorReport(ErrorClass.INTERNAL, "It was set aside; the journal does not say why.")
_ENDED = ErrorReport(ErrorClass.FORGOTTEN, "The server ended while the call was on its way.")


def versions_needed(past: PastRun) -> tuple[frozenset[int], frozenset[int]]:
    """Versions of the global model before the newest whose files are there and needed; which of them are released."""
    carried = {call.version for call in past.open.values()} | {one.version for one in past.wanted.values()}
    held = {version for version in range(past.version) if version not in past.released} | carried
    older = frozenset(held - {past.version})
    return older, older & past.released


def clear_leftovers(past: PastRun) -> None:
    """Remove what lies among the payloads of the run directory and belongs to nothing that is still needed."""
    older, _ = versions_needed(past)
    directory = past.directory
    keep = {past.model_file.name, past.model_file.with_suffix(".state.safetensors").name}
    keep |= {(directory.version_file(number) if number else directory.initial).name for number in older}
    keep |= {kept.file for kept in past.accepted.values()}
    every = [*(call.grants for call in past.open.values()), *past.undone_grants.values()]
    keep |= {str(large_part(grant).get("locator")) for grants in every for grant in grants}
    for path in directory.payloads.iterdir():
        if path.name not in keep and path.is_file():
            path.unlink(missing_ok=True)


def drop_unrecorded_metrics(past: PastRun) -> None:
    """Take those rows out of the metrics of which the journal knows nothing, and a torn last row: they come again."""
    path = past.directory.metrics
    if not path.is_file():
        return
    known = past.answered
    aside = path.with_suffix(".tmp")
    with path.open("rb") as rows, aside.open("wb") as kept:
        for line in rows:
            if line.endswith(b"\n") and _is_known(line, known, past.rounds.rounds):
                kept.write(line)
    aside.replace(path)


def _is_known(line: bytes, answered: set[tuple[str, int]], rounds: int) -> bool:
    try:
        row = json.loads(line)
        if row["kind"] == "round":
            return bool(row["round"] <= rounds)
        return (row["client"], row["round"]) in answered
    except (ValueError, LookupError, TypeError):
        return False


def recall(parts: Parts, past: PastRun) -> None:
    """Bring what remembers (scheduler, policy, ledger, books) to where it was; nothing is done yet.

    Raises:
        UsageError: if the scheduler or the policy answers otherwise than it did.
        JournalError: if the journal is damaged.
    """
    journal = past.directory.journal
    _replay(recorded_steps(journal), parts.scheduler, "scheduler answers", _OTHER_SCHEDULER)
    _replay(policy_steps(journal), parts.judge.policy, "failure policy decides", _OTHER_PROGRAM)
    parts.ledger.restore(past.accepted_last, past.folded_last)
    for client, met in past.met.items():
        parts.ledger.met(client, met.sample_size)
        parts.calls.threads[client] = met.threads
    parts.rounds.restore(past.rounds, past.latest)
    parts.journal.append(
        past.seconds, "resumed", number=past.resumed + 1, host=socket.gethostname(), version=VERSION
    )
    parts.journal.flush()


def _replay(
    steps: Iterable[Step[Heard, Said]], machine: Machine[Heard, Said], answers: str, hint: str
) -> None:
    """Bring a new ``machine`` to where it was.

    Raises:
        UsageError: if it answers otherwise than it did.
    """
    difference = first_difference(steps, machine)
    if difference is not None:
        raise UsageError(
            f"The {answers} otherwise than it did: to record {difference.recorded.number} of the journal "
            f"({type(difference.recorded.event).__name__}) it said {_short(difference.recorded.actions)} and now says "
            f"{_short(difference.actions)}.",
            hint,
        )


def _short(actions: Iterable[object]) -> str:
    return ", ".join(str(action) for action in actions)[:300] or "nothing"


def land_kept_updates(past: PastRun, arena: Arena, slots: Slots) -> tuple[PastRun, dict[UpdateId, int]]:
    """Bring accepted updates back into the arena.

    A file that is gone or damaged (the machine lost its power before it was on the disk) can't be had here any more:
    the run then goes on from before that update had arrived, and asks its site for it again.

    Returns:
        The run from where it goes on, and the slot of each update.
    """
    while True:
        landed: dict[UpdateId, int] = {}
        for update, kept in past.accepted.items():
            slot = slots.take(update.client)
            try:
                arena.land_kept(slot, past.directory.payloads / kept.file, kept.checksum)
            except (TransferError, UpdateRefusedError) as error:
                if past.last_version > kept.record:
                    raise UsageError(
                        f"An update of client {update.client} that had arrived is damaged, and later ones are part of "
                        f"the model already, so that the run can't go back before it. {error.message}",
                        "checkpoints/last.safetensors is its newest model: start a new run from it with --init-model.",
                    ) from None
                slots.give_back([slot, *landed.values()])
                for other in landed.values():
                    arena.free(other)
                past = read_past(past.directory, before=kept.record)
                break
            landed[update] = slot
        else:
            return past, landed


def restore(
    run: FederatedRun,
    parts: Parts,
    past: PastRun,
    landed: Mapping[UpdateId, int],
) -> str:
    """Give ``run``, whose scheduler and policy are where they were, everything else that the journal says.

    What the scheduler had decided and nobody did is done; calls in flight are attached to, or sent again.

    Args:
        run: with ``parts``.
        parts: of the run.
        past: what the journal says.
        landed: slots of the updates that were accepted and not folded.

    Returns:
        A sentence about it, for the log.
    """
    for client, met in past.met.items():
        parts.recorder.tell(ClientChanged(client, ClientState.READY, detail=f"{met.sample_size} samples"))
    for update, kept in past.accepted.items():
        file = past.directory.payloads / kept.file
        parts.intake.restore(Accepted(kept.meta, landed[update], kept.reference, file))
    carried = {
        call.fields["model_at"]["locator"] for call in past.open.values() if call.fields.get("model_at")
    }
    for client, reference in past.orphans:
        if reference.locator not in carried:
            parts.courier.evict(client, reference)
    for version, models in past.models.items():
        for reference, client in models.items():
            parts.model.inherit(version, partial(parts.routes.of(client).stores.evict, reference))
    for at, _ in past.timers.all():
        run.timers.set(at, Timer())
    for client in past.set_aside:
        run.failures.remember_aside(client, past.last_failure.get(client, _UNKNOWN))
    if past.open and parts.scheduler.counts is Counts.ROUNDS:
        parts.recorder.tell(RoundStarted(past.rounds.rounds + 1))
    attached = _take_up_calls(run, parts, past)
    for update in sorted(past.unjudged):
        run.failures.judge(judged.Accepted(update))
    if past.to_finish:
        run.steering.close_round(
            [kept.meta for kept, _ in past.to_finish], [behind for _, behind in past.to_finish]
        )
    elif past.version_judged < past.version:
        run.failures.judge(judged.Folded(past.version))
    run.failures.judge(judged.Resumed())
    # First, since what follows may release the versions that these calls carry.
    run.steering.dispatch([one for client, one in past.wanted.items() if client in parts.judge.policy.active])
    if past.to_fold is not None:
        run.steering.act(past.to_fold)
    for event in _in_order(past.to_feed):
        run.steering.feed(event)
    if past.started:
        unknown = [client for client in parts.clients if client not in past.met or client in past.set_aside]
        run.failures.greet(unknown)
    counts = {
        "round done": past.rounds.rounds,
        "update that is here already": len(past.accepted),
        "call attached to": attached,
        "call sent again": len(past.open) - attached,
    }
    return f"The run goes on: {', '.join(_many(count, what) for what, count in counts.items() if count)}."


def _many(count: int, what: str) -> str:
    noun, _, rest = what.partition(" ")
    return f"{count} {noun}{'' if count == 1 else 's'} {rest}"


def _take_up_calls(run: FederatedRun, parts: Parts, past: PastRun) -> int:
    """Attach to calls in flight where that is possible, and send the others again; to how many it was."""
    attached = 0
    for update, grants in past.undone_grants.items():
        for grant in grants:
            parts.intake.expect_by(update, grant)
    for client, call in past.open.items():
        restored = parts.calls.restored(
            parts.clients[client], call.update.dispatch, call.version, call.attempt, call.fields
        )
        seconds = max(0.0, parts.clock.now - call.sent_at)
        flight = InFlight(restored, time.monotonic() - seconds, call.version, task=call.task)
        for grant in call.grants:
            parts.intake.expect_by(call.update, grant)
        moved = call.endpoint != parts.clients[client].endpoint_id
        if moved and not past.orderly:
            _stop_at_the_old_endpoint(parts, call)
        under_way = not (moved or call.failed or call.paused)
        # A server that ended the run itself has told sites to stop, and taken the model out of their reach.
        if parts.capabilities[client].reattach and not past.orderly and under_way:
            flight.mailbox = _mailbox_of(parts, call)
            parts.dispatcher.attach(flight, str(call.fields.get("task_group") or ""))
            parts.recorder.tell(ClientChanged(client, ClientState.SENT, call.update.dispatch))
            attached += 1
        else:
            run.failures.take_up(
                FailedCall(flight, _ENDED), now=not call.paused, checkpoint_steps=call.checkpoint_steps
            )
    return attached


def _stop_at_the_old_endpoint(parts: Parts, call: UnansweredCall) -> None:
    mailbox = _mailbox_of(parts, call)
    if mailbox is not None:
        parts.courier.remove(mailbox)


def _mailbox_of(parts: Parts, call: UnansweredCall) -> ServerMailbox | None:
    public = call.fields.get("mailbox")
    if not isinstance(public, dict):
        return None
    try:
        return parts.routes.mailbox_again(call.client, public)
    except TransferError as error:
        parts.recorder.log(f"Client {call.client}: {error}", logging.WARNING)
        return None


def _in_order(events: list[Event]) -> list[Event]:
    """What follows a new version comes first; the rest as the policy decided it."""
    return sorted(events, key=lambda event: not isinstance(event, Aggregated))
