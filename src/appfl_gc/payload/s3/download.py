"""Bytes from a signed URL into a file, several ranges at once; a range that broke is gone on with."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from appfl_gc.payload.files import write_all_at
from appfl_gc.payload.retry import PassingError, Patience
from appfl_gc.payload.s3.connection import Connection, Deadlines, Request
from appfl_gc.payload.s3.crew import Crew
from appfl_gc.payload.s3.refusals import refused
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import TransferError

WHAT = "The download of a payload"
THREADS = 4
RANGE = 16 << 20
PIECE = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(eq=False)
class Range:
    """A stretch of the payload.

    Attributes:
        start: its first byte.
        end: the byte after its last.
        done: bytes of it that are in the file.
    """

    start: int
    end: int
    done: int = 0


def download(
    url: str,
    size: int,
    file: int,
    arrived: Callable[[int], None],
    stop: threading.Event,
    *,
    threads: int = THREADS,
    patience: Patience | None = None,
    deadlines: Deadlines | None = None,
) -> None:
    """Write the ``size`` bytes of an object into a file. Never more, whatever the store sends.

    Args:
        url: signed.
        size: what the object must have.
        file: descriptor of a file.
        arrived: hears, on the calling thread, how many bytes from the start are in the file.
        stop: ends the download within a second.
        threads: how many ranges at once.
        patience: with each range.
        deadlines: of each request.

    Raises:
        TransferError: if it did not succeed; says why.
    """
    if size <= 0:
        raise TransferError("A payload without bytes can't be fetched.")
    ranges = [Range(start, min(start + RANGE, size)) for start in range(0, size, RANGE)]
    source = _Source(url, size, file)
    first, told = 0, 0

    def watch() -> None:
        nonlocal first, told
        while first < len(ranges) - 1 and ranges[first].start + ranges[first].done == ranges[first].end:
            first += 1
        now = ranges[first].start + ranges[first].done
        if now > told:
            told = now
            arrived(now)

    with Crew(source.take, threads, WHAT, stop, watch, patience=patience, deadlines=deadlines) as crew:
        source.tell = crew.tell
        crew.give_all(ranges)
        crew.finish()


class _Source:
    """One object, and the file into which its ranges go."""

    def __init__(self, url: str, size: int, file: int) -> None:
        self._url = url
        self._size = size
        self._file = file
        self._tag = ""
        self._lock = threading.Lock()
        self.tell: Callable[[], None] = lambda: None

    def take(self, connection: Connection, part: Range) -> None:
        """One try at the rest of a range."""
        begun = part.start + part.done
        request = Request("GET", self._url, {"Range": f"bytes={begun}-{part.end - 1}"})
        try:
            with connection.exchange(request, ignore, part.end - begun) as answer:
                if answer.status >= 300 and answer.status != 416:
                    raise refused(answer, request.host, "the download")
                self._check(
                    answer.status,
                    answer.getheader("Content-Range", ""),
                    answer.getheader("Content-Length", ""),
                    begun,
                    part.end,
                )
                self._same(answer.getheader("ETag", ""))
                buffer = memoryview(bytearray(min(PIECE, part.end - begun)))
                while (left := part.end - part.start - part.done) > 0:
                    count = answer.readinto(buffer[:left])
                    if count == 0:
                        raise PassingError(f"The store at {request.host} ended an answer too early.")
                    self._write(buffer[:count], part.start + part.done)
                    part.done += count
                    self.tell()
                answer.read(1)
        except PassingError as error:
            error.progressed = part.start + part.done - begun >= PIECE
            raise

    def _check(self, status: int, stretch: str, length: str, begun: int, end: int) -> None:
        found = _CONTENT_RANGE.fullmatch(stretch)
        if status == 416:
            raise TransferError(
                f"The payload in the store has fewer than the {self._size:,} bytes that were sent."
            )
        if status == 200 and begun == 0 and end == self._size:
            total = int(length) if length.isdigit() else -1
        elif status == 206 and found is not None:
            total = int(found.group(3))
            if (int(found.group(1)), int(found.group(2)) + 1) != (begun, end) and total == self._size:
                raise TransferError("The store sent another part of a payload than it was asked for.")
        else:
            raise TransferError(
                f"The store answered with status {status} when it was asked for a part of a payload.",
                "It, or a proxy before it, must support the header Range.",
            )
        if total != self._size:
            raise TransferError(
                f"The payload in the store has {total:,} bytes; {self._size:,} were sent. It was refused."
            )

    def _same(self, tag: str) -> None:
        with self._lock:
            self._tag = self._tag or tag
            if tag != self._tag:
                raise TransferError("The payload in the store changed while it was downloaded.")

    def _write(self, data: memoryview, offset: int) -> None:
        try:
            write_all_at(self._file, data, offset)
        except OSError as error:
            # Not the network's trouble, so it must not look like that.
            raise TransferError(
                f"A payload can't be written to this machine's disk: {os.strerror(error.errno or 0)}.",
                "Make room in the directory for payloads, or choose another one.",
            ) from None
