"""What going on with a run would do: what is kept, attached to and sent again, and what is gone. Changes nothing."""

from __future__ import annotations

import enum
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from appfl_gc.config.diagnostic import Diagnostic, Severity
from appfl_gc.config.federation import LOCAL, Federation
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, UsageError
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.doctor.row import Row, Subject, answer
from appfl_gc.runner.doctor.stores import choices_of, store_rows
from appfl_gc.runner.preflight import client_sites
from appfl_gc.runner.resume.carried import carried_rows
from appfl_gc.runner.resume.changes import Change, changes_since, describe
from appfl_gc.runner.resume.invocation import Invocation
from appfl_gc.runner.resume.newest_model import check_newest_model
from appfl_gc.runner.resume.past import PastRun, UnansweredCall
from appfl_gc.runner.services import compute_services, identity_of

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.identity import Identity
    from appfl_gc.control.globus_compute.rest.service import ComputeService

Tell: TypeAlias = Callable[[str], None]


class Fate(str, enum.Enum):
    """What becomes of a client's call."""

    USED = "used"
    """Its update has arrived and is folded without being computed again."""
    ATTACHED = "attached to"
    """The service knows it: its answer is taken or waited for."""
    LOOKED_FOR = "looked for"
    """It may be at the service, which is asked; else it is sent again."""
    SENT_AGAIN = "sent again"
    """Its site answers from its outbox if it has the answer, and from its checkpoint if it has one."""
    SENT = "sent"
    """It was decided and had not left."""
    GREETED = "greeted"
    """The client was set aside and gets a new chance, or had not been met."""
    NOTHING = "nothing"
    """The client waits for its next round."""


@dataclass(frozen=True)
class Item:
    """What becomes of one call, or of a client without one. ``dispatch`` is 0 for that."""

    client: str
    dispatch: int
    fate: Fate
    detail: str = ""

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "client": self.client,
            "dispatch": self.dispatch,
            "fate": self.fate.value,
            "detail": self.detail,
        }


@dataclass(frozen=True)
class Plan:
    """What going on would do.

    Attributes:
        past: the run.
        items: by client, in the run's order.
        diagnostics: of the configuration as it is now.
        changes: what is another than when the run began.
        rows: what was checked, and what would make the run fail.
    """

    past: PastRun
    items: tuple[Item, ...]
    diagnostics: tuple[Diagnostic, ...]
    changes: tuple[Change, ...]
    rows: tuple[Row, ...]


AtService: TypeAlias = Mapping[str, str]
"""By client: where its open call is, as the service says; clients whose call it does not know are missing."""

DIRECTORY = Subject("Run directory")
CONFIGURATION = Subject("Configuration")
STORES = Subject("Stores")
CALLS = Subject("Calls")


def make_plan(past: PastRun, invocation: Invocation, tell: Tell) -> Plan:
    """Look at everything that going on with ``past`` needs.

    Args:
        past: the run.
        invocation: what it was started with.
        tell: hears what is being done, a few words at a time.
    """
    found = invocation.examine()
    rows = list(_directory_rows(past))
    if found.federation is None:
        rows += _wrong(found.diagnostics)
        return Plan(past, tuple(items(past, {}, {})), found.diagnostics, (), tuple(rows))
    federation = found.federation
    at_service: dict[str, str] = {}
    changes: Sequence[Change] = ()
    try:
        changes = changes_since(past, federation, found.views)
        rows += _compared(changes)
    except UsageError as error:
        rows.append(CONFIGURATION.failed("record", error))
    rows += store_rows(STORES, choices_of(federation), tell)
    rows += carried_rows(STORES, past)
    tokens = (invocation.compute_token, invocation.openid_token)
    rows += _service_rows(past, federation, tokens, at_service, tell)
    endpoints = {client.client_id: client.endpoint_id for client in federation.clients}
    return Plan(
        past, tuple(items(past, at_service, endpoints)), found.diagnostics, tuple(changes), tuple(rows)
    )


def items(past: PastRun, at_service: AtService, endpoints: Mapping[str, str]) -> Iterator[Item]:
    """What becomes of each call and each client.

    Args:
        past: the run.
        at_service: what the service says.
        endpoints: where each client is now, if that is known.
    """
    for client in past.clients:
        before = list(_calls_of(client, past, at_service, endpoints))
        yield from before
        if client in past.set_aside:
            yield Item(client, 0, Fate.GREETED, f"It was set aside. {past.why(client)}".rstrip())
        elif client not in past.met:
            yield Item(client, 0, Fate.GREETED, "It had not answered yet.")
        elif not before:
            yield Item(client, 0, Fate.NOTHING)


def _calls_of(
    client: str, past: PastRun, at_service: AtService, endpoints: Mapping[str, str]
) -> Iterator[Item]:
    for update in sorted(update for update in past.accepted if update.client == client):
        yield Item(client, update.dispatch, Fate.USED)
    if client in past.open:
        call = past.open[client]
        fate, detail = _fate_of(call, past.orderly, at_service, endpoints.get(client, call.endpoint))
        steps = call.checkpoint_steps
        checkpoint = f" Its site has a checkpoint after {steps} steps." if steps else ""
        yield Item(client, call.update.dispatch, fate, f"{detail}{checkpoint}")
    if client in past.wanted:
        yield Item(client, past.wanted[client].dispatch, Fate.SENT)


def _fate_of(
    call: UnansweredCall, told_to_stop: bool, at_service: AtService, endpoint: str
) -> tuple[Fate, str]:
    if call.failed or call.paused:
        return Fate.SENT_AGAIN, "It had failed."
    if told_to_stop:
        return Fate.SENT_AGAIN, "Its site was told to stop."
    if call.endpoint != endpoint:
        return Fate.SENT_AGAIN, "Its client is at another endpoint now."
    if endpoint == LOCAL:
        return Fate.SENT_AGAIN, "Its worker ended with the server."
    if call.client in at_service:
        return Fate.ATTACHED, at_service[call.client]
    if not call.task:
        return Fate.LOOKED_FOR, "Its task's number had not been heard of."
    return Fate.SENT_AGAIN, "The service does not know it any more."


def _model_row(past: PastRun) -> Row:
    try:
        check_newest_model(past)
    except UsageError as error:
        return DIRECTORY.fail("model", error.message, error.hint, ErrorClass.USER)
    return DIRECTORY.ok("model", f"Version {past.version} of the global model is there.")


def _directory_rows(past: PastRun) -> Iterator[Row]:
    path = past.directory.path
    if os.access(path, os.W_OK):
        yield DIRECTORY.ok("write", "It can be written.")
    else:
        yield DIRECTORY.fail(
            "write", "It can't be written.", "Ask whose it is, or remount it.", ErrorClass.STORAGE
        )
    if not past.began:
        yield DIRECTORY.fail(
            "journal",
            "The run was ended before it had begun; there is nothing to go on with.",
            "Start it again with `appfl-gc run`.",
            ErrorClass.USER,
        )
    else:
        yield _model_row(past)
    gone = [
        update
        for update, kept in past.accepted.items()
        if not (past.directory.payloads / kept.file).is_file()
    ]
    for update in gone:
        yield DIRECTORY.warn(
            "update",
            f"The update of {update.client} has gone from payloads/; its site is asked for it again.",
        )


def _wrong(diagnostics: tuple[Diagnostic, ...]) -> Iterator[Row]:
    for found in diagnostics:
        if found.severity is Severity.ERROR:
            where = f"{found.place}: " if found.place else ""
            yield CONFIGURATION.fail(
                found.key or "file", f"{where}{found.message}", found.hint, ErrorClass.USER
            )


def _compared(changes: Sequence[Change]) -> Iterator[Row]:
    fine = [change for change in changes if change.may_change]
    refused = [change for change in changes if not change.may_change]
    if not changes:
        yield CONFIGURATION.ok("changes", "It is the one that the run began with.")
    for line in describe(fine):
        yield CONFIGURATION.ok("changed", line)
    for line in describe(refused):
        yield CONFIGURATION.fail("changed", line, "Undo this: a run keeps it to its end.", ErrorClass.USER)


def _service_rows(
    past: PastRun,
    federation: Federation,
    tokens: tuple[str | None, str | None],
    at_service: dict[str, str],
    tell: Tell,
) -> Iterator[Row]:
    """Logins and endpoints; what the service says of the open calls goes into ``at_service``."""
    remote = [client for client in federation.clients if client.endpoint_id != LOCAL]
    if not remote:
        return
    # The SDK takes half a second to import.
    from appfl_gc.control.globus_compute.failing.quiet import QuietLibraries
    from appfl_gc.runner.doctor.remote import RemoteExamination

    identities: dict[str, Identity] = {}
    for client in remote:
        found = answer(lambda: identity_of(client, federation, tokens))  # noqa: B023
        if isinstance(found, AppflGcError):
            yield Subject(f"Login of {client.client_id}").failed("login", found)
        else:
            identities[client.client_id] = found
    if not identities:
        return
    with QuietLibraries(logging.getLogger(__name__)), compute_services(identities) as services:
        sites = client_sites(federation, services)
        yield from RemoteExamination(federation, sites, services, tell).rows()
        tell("asking about calls")
        yield from _ask(past, services, at_service)


def _ask(past: PastRun, services: Mapping[str, ComputeService], at_service: dict[str, str]) -> Iterator[Row]:
    from appfl_gc.control.globus_compute.following.task_row import is_over, result_of, status_of

    for service in dict.fromkeys(services.values()):
        tasks = {
            call.task: client
            for client, call in past.open.items()
            if services.get(client) is service and call.task and not call.failed
        }
        if not tasks:
            continue
        rows = answer(lambda: service.task_batch(tasks))  # noqa: B023
        if isinstance(rows, AppflGcError):
            yield CALLS.failed("tasks", rows)
            continue
        for task, row in rows.items():
            if task not in tasks or (is_over(row) and result_of(row) is None and "exception" not in row):
                continue
            said = "Its answer is there." if is_over(row) else f"The service says: {status_of(row)}."
            at_service[tasks[task]] = said
