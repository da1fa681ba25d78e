"""The journal: what a run did, in order, so that it can be understood and gone on with.

A line a record: a CRC-32, a space, and ``[number, second of run, kind, fields]`` in JSON. The last line may be torn
by a crash; any other line that does not check is damage.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from appfl_gc.protocol.errors import AppflGcError

JOURNAL_VERSION = 1
STEP = "step"
"""Kind of the records of what a scheduler heard, when, and what it answered."""


class JournalError(AppflGcError):
    """The journal is damaged, or of another version."""


@dataclass(frozen=True)
class Record:
    """One line: its number from 0, seconds of run, kind and fields."""

    number: int
    at: float
    kind: str
    fields: Mapping[str, Any]


def _check(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


class Journal:
    """Appends records. Nothing is on disk before ``flush``. While open, ``is_open`` tells other processes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        # Not every network file system has locks.
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._number = 0
        self.append(0.0, "journal", version=JOURNAL_VERSION)

    def append(self, at: float, kind: str, **fields: Any) -> None:
        """Add a record at second ``at`` of the run; ``fields`` are JSON values."""
        body = json.dumps([self._number, round(at, 6), kind, fields], separators=(",", ":"))
        self._file.write(f"{_check(body)} {body}\n")
        self._number += 1

    def flush(self) -> None:
        """Put every record on disk: call it before what could not be done twice."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close."""
        if not self._file.closed:
            self.flush()
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_open(path: Path) -> bool:
    """Whether a run on this machine, or on one that shares the file system's locks, has this journal open."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_journal(path: Path) -> Iterator[Record]:
    """The records of a journal; a torn last line is left out.

    Raises:
        JournalError: if a line other than the last does not check, or the version is another.
    """
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for place, line in enumerate(file, 1):
            check, _, body = line.rstrip("\n").partition(" ")
            if not body and not check:
                continue
            if check != _check(body):
                if not line.endswith("\n"):
                    return
                raise JournalError(f"{path}:{place} does not match its checksum, so the journal is damaged.")
            number, at, kind, fields = json.loads(body)
            if kind == "journal" and fields.get("version") != JOURNAL_VERSION:
                raise JournalError(
                    f"{path} has journal version {fields.get('version')}; this program reads version {JOURNAL_VERSION}."
                )
            yield Record(number, at, kind, fields)
