"""Whether the global models that calls in flight carry still lie in the stores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from appfl_gc.payload.s3.settings import LONGEST_LIFE
from appfl_gc.protocol.errors import AppflGcError
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.doctor.row import Row, Subject, answer, named
from appfl_gc.runner.leftovers import bucket_objects, connector_of, places
from appfl_gc.runner.resume.past import PastRun

AGAIN = "A site that has not begun says so, and the call is sent again with a new copy."


def carried_rows(subject: Subject, past: PastRun) -> Iterator[Row]:
    """A row for each store that calls in flight need; a model that has gone costs time, nothing else."""
    if past.orderly:
        return
    by_scheme: dict[str, dict[str, Mapping[str, object]]] = {}
    for client, call in past.open.items():
        reference = call.fields.get("model_at")
        if isinstance(reference, dict) and not call.failed:
            by_scheme.setdefault(str(reference.get("scheme")), {})[client] = reference
    found = answer(lambda: places(past.directory.path))
    if isinstance(found, AppflGcError):
        if by_scheme:
            yield subject.failed("models", found)
        return
    buckets, connectors = found
    for scheme, there in (("s3", _in_buckets), ("proxystore", _in_connectors)):
        if scheme not in by_scheme:
            continue
        references, listed = by_scheme[scheme], buckets if scheme == "s3" else connectors
        here = answer(lambda: there(past, listed, references))  # noqa: B023
        yield (
            subject.warn("models", f"Whether they are still there can't be told. {here.message}", here.hint)
            if isinstance(here, AppflGcError)
            else _row(subject, list(references), here)
        )
    if "s3" in by_scheme and time.time() - past.directory.journal.stat().st_mtime > LONGEST_LIFE:
        yield subject.warn(
            "granted URLs",
            f"Those of {named(list(by_scheme['s3']))} have expired: none lives for more than 7 days. {AGAIN}",
        )


def _row(subject: Subject, clients: Sequence[str], here: set[str]) -> Row:
    gone = [client for client in clients if client not in here]
    if not gone:
        return subject.ok("models", f"What the calls of {named(clients)} carry is still there.")
    return subject.warn("models", f"What the calls of {named(gone)} carry has gone. {AGAIN}")


def _in_buckets(
    past: PastRun, listed: Sequence[dict[str, Json]], references: Mapping[str, Mapping[str, object]]
) -> set[str]:
    """The clients whose reference is an object of the run."""
    names: set[str] = set()
    for place in listed:
        with bucket_objects(past.directory.path, place) as objects:
            names |= set(objects.locators())
    return {client for client, reference in references.items() if reference.get("locator") in names}


def _in_connectors(
    past: PastRun, listed: Sequence[dict[str, Json]], references: Mapping[str, Mapping[str, object]]
) -> set[str]:
    """The clients whose reference leads to a payload."""
    from appfl_gc.payload.proxystore.leftovers import model_left, sweep

    found: set[str] = set()
    for place in listed:
        kind, near, far = connector_of(past.directory.path, place)
        for client, reference in references.items():
            left = model_left(reference)
            if left is not None and sweep(kind, near, far, [left], dry_run=True).payloads:
                found.add(client)
    return found
