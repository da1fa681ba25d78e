"""Whether a bucket does all that a run needs, tried with a small object before anything depends on it."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator

from appfl_gc.payload.s3.granted import from_grant
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import AppflGcError, TransferError


class _Probe:
    """A few random bytes to store."""

    codec = "probe"

    def __init__(self) -> None:
        self.content = secrets.token_bytes(100)
        self.size = len(self.content)

    def chunks(self) -> Iterator[memoryview]:
        yield memoryview(self.content)


def check(store: S3Store) -> list[str]:
    """Put a small object as a site does, with a granted URL; complete, fetch, and remove it.

    Returns:
        Sentences about what does not work and is not needed to run.

    Raises:
        TransferError, UsageError: what does not work, in plain words.
    """
    probe = _Probe()
    grant = store.grant([], probe.size)
    try:
        ref = from_grant(grant).put(probe)
        with tempfile.TemporaryFile() as file:
            store.fetch(ref, file.fileno(), ignore)
            file.seek(0)
            if file.read() != probe.content:
                raise TransferError(f"The S3 bucket {store.settings.bucket} gave other bytes than were put.")
        store.evict(ref)
    finally:
        store.withdraw(grant)
    try:
        store.sweep(dry_run=True)
    except AppflGcError as error:
        return [f"What a killed run leaves in the bucket can't be found later. {error.message}"]
    return []
