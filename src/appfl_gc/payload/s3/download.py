"""Bytes from a signed URL into a file, several ranges at once; a range that broke is gone on with."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import requests

from appfl_gc.payload.files import write_all_at
from appfl_gc.payload.local_disk import not_written
from appfl_gc.payload.retry import PassingError, Patience
from appfl_gc.payload.s3.crew import Crew, threads_for
from appfl_gc.payload.s3.exchange import Deadlines, exchange, read
from appfl_gc.protocol.errors import TransferError

WHAT = "The download of a payload"
RANGE = 16 << 20
PIECE = 1 << 20
_PROGRESS = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


@dataclass(eq=False)
class Range:
    """A stretch of the payload.

    Attributes:
        start: its first byte.
        end: the byte after its last.
        done: bytes of it that are in the file.
        expires: see ``crew.Task``.
    """

    start: int
    end: int
    done: int = 0
    expires: float = float("inf")


def download(
    url: str,
    size: int,
    file: int,
    arrived: Callable[[int], None],
    stop: threading.Event,
    *,
    threads: int | None = None,
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
        threads: how many ranges at once; None: by the size.
        patience: with each range.
        deadlines: of each request.

    Raises:
        TransferError: if it did not succeed; says why.
        StorageError: if the file does not take the bytes; that is not tried again.
    """
    if size <= 0:
        raise TransferError("A payload without bytes can't be fetched.")
    ranges = [Range(start, min(start + RANGE, size)) for start in range(0, size, RANGE)]
    deadlines = deadlines or Deadlines()
    source = _Source(url, size, deadlines)
    first, told = 0, 0

    def watch() -> None:
        nonlocal first, told
        while first < len(ranges) - 1 and ranges[first].start + ranges[first].done == ranges[first].end:
            first += 1
        now = ranges[first].start + ranges[first].done
        if now > told:
            told = now
            arrived(now)

    def take(session: requests.Session, part: Range) -> None:
        begun = part.done
        part.expires = time.monotonic() + deadlines.seconds(part.end - part.start)
        # Of our own, so that a thread that is late can't write into another file of the same number.
        out = os.dup(file)
        try:
            for piece in source.pieces(session, part.start + begun, part.end):
                crew.halted()
                _write(out, piece, part.start + part.done)
                part.done += len(piece)
                crew.tell()
        except PassingError as error:
            error.progressed = part.done - begun >= _PROGRESS
            raise
        finally:
            os.close(out)
            part.expires = float("inf")

    with Crew(take, threads or threads_for(size), WHAT, stop, watch, patience) as crew:
        crew.give(ranges)
        crew.finish()


class _Source:
    """One object, whose size and tag must be the same in all answers."""

    def __init__(self, url: str, size: int, deadlines: Deadlines) -> None:
        self._url = url
        self._size = size
        self._deadlines = deadlines
        self._tag = ""
        self._lock = threading.Lock()

    def pieces(self, session: requests.Session, begun: int, end: int) -> Iterator[bytes]:
        """The bytes from ``begun`` to ``end``."""
        headers = {"Range": f"bytes={begun}-{end - 1}"}
        with exchange(session, "GET", self._url, "the download", self._deadlines, headers=headers) as answer:
            self._check(answer, begun, end)
            while begun < end:
                piece = read(answer, min(PIECE, end - begun))
                begun += len(piece)
                yield piece

    def _check(self, answer: requests.Response, begun: int, end: int) -> None:
        status, length = answer.status_code, answer.headers.get("Content-Length", "")
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
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

        tag = answer.headers.get("ETag", "")
        with self._lock:
            self._tag = self._tag or tag
            if tag != self._tag:
                raise TransferError("The payload in the store changed while it was downloaded.")


def _write(file: int, data: bytes, offset: int) -> None:
    try:
        write_all_at(file, memoryview(data), offset)
    except OSError as error:
        # Not the network's trouble, so it must not look like that.
        raise not_written(file, error) from None
