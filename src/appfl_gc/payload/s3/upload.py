"""Bytes to signed URLs, in parts, while their checksum is computed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from appfl_gc.payload.checksum import STRONG, Checksum
from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.connection import SLICE, Connection, Deadlines, Request
from appfl_gc.payload.s3.crew import Crew
from appfl_gc.payload.s3.refusals import LONGEST_ANSWER, refused
from appfl_gc.protocol.errors import TransferError

WHAT = "The upload of a payload"
THREADS = 4
MOST_PARTS = 64
SMALLEST_PART = 8 << 20
_STEP = 1 << 20
_SMALL = 1 << 16


def part_bytes(largest: int) -> int:
    """The size of all parts but the last of an upload of up to ``largest`` bytes, for at most ``MOST_PARTS`` parts."""
    even = -(-largest // MOST_PARTS)
    return max(SMALLEST_PART, -(-even // _STEP) * _STEP)


@dataclass(eq=False)
class Part:
    """One request's worth of bytes.

    Attributes:
        index: from 0.
        body: the bytes; the encoder's own memory where it lies in large pieces.
        out: how many of them the present try has sent.
        tag: the store's name for the part, once it has it.
    """

    index: int
    body: Sequence[memoryview] = field(repr=False)
    size: int
    out: int = 0
    tag: str = ""


def upload(
    payload: Encoded,
    part_size: int,
    url: Callable[[int], str],
    sent: Callable[[int], None],
    stop: threading.Event,
    *,
    threads: int = THREADS,
    patience: Patience | None = None,
    deadlines: Deadlines | None = None,
) -> tuple[str, list[str]]:
    """Send ``payload`` in parts. A part is sent again if that can help.

    What is held at a time are the encoder's chunks that belong to ``threads + 2`` parts.

    Args:
        payload: what to send; read once.
        part_size: bytes of each part but the last.
        url: signed, for a part's index; called once per part, on the calling thread.
        sent: hears, on the calling thread, how many bytes are out so far.
        stop: ends the upload within a second.
        threads: how many parts at once.
        patience: with each part.
        deadlines: of each request.

    Returns:
        The checksum (``STRONG``), and the store's tags of the parts in order.

    Raises:
        TransferError: if it did not succeed; says why.
    """
    running = Checksum(STRONG)
    parts: list[Part] = []
    urls: dict[int, str] = {}
    told = 0

    def watch() -> None:
        nonlocal told
        out = sum(part.out for part in parts)
        if out > told:
            told = out
            sent(out)

    def send(connection: Connection, part: Part) -> None:
        part.out = 0

        def more(size: int) -> None:
            part.out += size

        request = Request("PUT", urls[part.index], body=part.body)
        with connection.exchange(request, more) as answer:
            if answer.status >= 300:
                raise refused(answer, request.host, "the upload of a part")
            part.tag = answer.getheader("ETag", "")
            answer.read(LONGEST_ANSWER)
        part.body = ()

    with Crew(send, threads, WHAT, stop, watch, patience=patience, deadlines=deadlines) as crew:
        for body, size in cut(payload.chunks(), part_size, running.update):
            part = Part(len(parts), body, size)
            urls[part.index] = url(part.index)
            parts.append(part)
            crew.give(part)
        crew.finish()
    if sum(part.size for part in parts) != payload.size:
        raise TransferError("A payload had another number of bytes than it said; it was not sent.")
    return str(running), [part.tag for part in parts]


def cut(
    chunks: Iterator[memoryview], part_size: int, see: Callable[[memoryview], None]
) -> Iterator[tuple[list[memoryview], int]]:
    """``chunks`` as parts of ``part_size`` bytes, and each part's size. Small chunks are joined, large ones not copied.

    Args:
        chunks: bytes in order; they stay as they are while a part is in use.
        part_size: bytes of each part but the last.
        see: called with all bytes in order.
    """
    body: list[memoryview] = []
    small = bytearray()
    size = 0
    for chunk in chunks:
        rest = chunk.cast("B")
        while rest:
            piece, rest = rest[: part_size - size], rest[part_size - size :]
            see(piece)
            size += len(piece)
            if len(piece) < _SMALL:
                small += piece
            else:
                if small:
                    body.append(memoryview(small))
                    small = bytearray()
                body.append(piece)
            if len(small) >= SLICE or (small and size == part_size):
                body.append(memoryview(small))
                small = bytearray()
            if size == part_size:
                yield body, size
                body, size = [], 0
    if small:
        body.append(memoryview(small))
    if body:
        yield body, size
