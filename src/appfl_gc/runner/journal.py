"""The journal: what a run did, in order, so that it can be understood and gone on with.

A line a record: a CRC-32, a space, and ``[number, second of run, kind, fields]`` in JSON. A crash of this process
loses no record; one of the machine may tear the last line, or lose what was appended after the last ``flush``. Any
other line that does not check is damage.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from appfl_gc.payload.files import sync_directory, write_all
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import as_finite

JOURNAL_VERSION = 2
STEP = "step"
"""Kind of the records of what a scheduler heard, when, and what it answered."""
POLICY = "policy"
"""Likewise of the failure policy."""
_DAMAGED = (
    "The run can't be gone on with. checkpoints/last.safetensors is its newest model: start a new run from it with "
    "--init-model."
)


class JournalError(UsageError):
    """The journal is damaged, or of another version."""


@dataclass(frozen=True)
class Record:
    """One line: its number from 0, seconds of run, kind and fields; ``end`` is where the next one begins, in bytes."""

    number: int
    at: float
    kind: str
    fields: Mapping[str, Any]
    end: int = 0


def _check(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x}".encode()


class Journal:
    """Appends records. Each is the kernel's when ``append`` returns, and on the disk after ``flush``.

    Args:
        path: the file; made if it is absent.
        last: the record to go on after. What follows it in the file, such as a torn line, is cut off. None: the file
            is new.
        guard: called before anything is written; it raises where another process has taken the run.

    Raises:
        OSError: if the file can't be written.
    """

    def __init__(
        self, path: Path, last: Record | None = None, guard: Callable[[], None] = lambda: None
    ) -> None:
        self._guard = guard
        guard()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = 0 if last is None else last.end
        self._number = 0 if last is None else last.number + 1
        os.ftruncate(self._descriptor, self._end)
        os.lseek(self._descriptor, self._end, os.SEEK_SET)
        if last is None:
            self.append(0.0, "journal", version=JOURNAL_VERSION)
            sync_directory(path.parent)

    def append(self, at: float, kind: str, **fields: Any) -> None:
        """Add a record at second ``at`` of the run; ``fields`` are JSON values.

        Raises:
            OSError: if there is no room for it; the journal is then as it was.
            LeaseHeldError: as ``guard`` does.
        """
        self._guard()
        body = json.dumps([self._number, round(at, 6), kind, fields], separators=(",", ":")).encode()
        line = b"%s %s\n" % (_check(body), body)
        try:
            write_all(self._descriptor, memoryview(line))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
                os.lseek(self._descriptor, self._end, os.SEEK_SET)
            raise
        self._end += len(line)
        self._number += 1

    def flush(self) -> None:
        """Put every record on disk: call it before what could not be done twice."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Flush and close."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_journal(path: Path, kinds: Collection[str] = ()) -> Iterator[Record]:
    """The records of a journal; a torn last line is left out.

    Args:
        path: the file.
        kinds: the kinds of records to give; empty for all. Others are checked, but not read.

    Raises:
        JournalError: if a line other than the last does not check, or the version is another.
    """
    wanted = {b'"%s"' % kind.encode() for kind in kinds}
    end = 0
    with path.open("rb") as file:
        for expected, line in enumerate(file):
            end += len(line)
            check, _, body = line.rstrip(b"\n").partition(b" ")
            if not line.endswith(b"\n"):
                return
            if check != _check(body):
                if not file.readline():
                    return
                raise JournalError(
                    f"{path}:{expected + 1} does not match its checksum, so the journal is damaged.", _DAMAGED
                )
            if wanted and expected and _kind(body) not in wanted:
                continue
            record = _parsed(body, end)
            if record is None or record.number != expected:
                raise JournalError(
                    f"{path}:{expected + 1} is not record {expected} of a journal, which is damaged.",
                    _DAMAGED,
                )
            if record.kind == "journal" and record.fields.get("version") != JOURNAL_VERSION:
                raise JournalError(
                    f"{path} has journal version {record.fields.get('version')}; this program reads version "
                    f"{JOURNAL_VERSION}.",
                    "Use the version of appfl_gc that wrote it (environment.json says which).",
                )
            yield record


def _kind(body: bytes) -> bytes:
    return b"".join(body.split(b",", 3)[2:3])


def _parsed(body: bytes, end: int) -> Record | None:
    try:
        parts = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match parts:
        case [int(number), at, str(kind), dict(fields)] if (seconds := as_finite(at)) is not None:
            return Record(number, seconds, kind, fields, end)
        case _:
            return None
