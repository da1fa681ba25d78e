"""Whether a bucket does all that a run needs, tried with a small object before anything depends on it."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
from collections.abc import Iterator

from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.client import Client
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.payload.s3.granted import from_grant
from appfl_gc.payload.s3.problems import AnsweredError
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import AppflGcError, TransferError, UsageError

PATIENCE = Patience(tries=2)
DEADLINES = Deadlines(connect=5.0, silence=10.0)
"""For a store that is checked: nothing is lost yet by ending, and a person waits. A store that does not answer, at
whichever step, is known for one within 40 s."""
_SWEEP_SECONDS = 10.0


class _Probe:
    """A few random bytes to store."""

    codec = "probe"

    def __init__(self) -> None:
        self.content = secrets.token_bytes(100)
        self.size = len(self.content)

    def chunks(self) -> Iterator[memoryview]:
        yield memoryview(self.content)


def check(store: S3Store, stop: threading.Event | None = None) -> list[str]:
    """Put a small object as a site does, with a granted URL; complete, fetch, and remove it.

    Args:
        store: with ``PATIENCE`` and ``DEADLINES``.
        stop: ends it within a second, as far as ``store`` does not.

    Returns:
        Sentences about what does not work and is not needed to run.

    Raises:
        TransferError, UsageError: what does not work, in plain words.
    """
    _reach(store, stop or threading.Event())
    probe = _Probe()
    grant = store.grant([], probe.size)
    try:
        ref = from_grant(grant, stop, patience=PATIENCE, deadlines=DEADLINES).put(probe)
        with tempfile.TemporaryFile() as file:
            store.fetch(ref, file.fileno(), ignore)
            file.seek(0)
            if file.read() != probe.content:
                raise TransferError(f"The S3 bucket {store.settings.bucket} gave other bytes than were put.")
        store.evict(ref)
    except BaseException:
        # A store that did the above not will hardly do this; what went wrong first is told.
        with contextlib.suppress(AppflGcError):
            store.withdraw(grant)
        raise
    try:
        store.sweep(dry_run=True, seconds=_SWEEP_SECONDS)
    except AppflGcError as error:
        return [f"What a killed run leaves in the bucket can't be found later. {error.message}"]
    return []


def _reach(store: S3Store, stop: threading.Event) -> None:
    """Ask what changes nothing: what a frozen server is asked, it does when it goes on."""
    client = Client(store.settings, stop, patience=PATIENCE, deadlines=DEADLINES)
    try:
        client.ask("list objects", "list_objects_v2", Prefix=f"{store.settings.prefix}/", MaxKeys=1)
    except (UsageError, AnsweredError):
        # It answers. Whether that matters is seen with what follows.
        pass
    finally:
        client.close()
