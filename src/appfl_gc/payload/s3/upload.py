"""Bytes to signed URLs, in parts, while their checksum is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import requests

from appfl_gc.payload.checksum import STRONG, Checksum
from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.crew import Crew, threads_for
from appfl_gc.payload.s3.exchange import SLICE, Body, Deadlines, exchange
from appfl_gc.protocol.errors import TransferError

WHAT = "The upload of a payload"
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
        url: where they go.
        body: the bytes; the encoder's own memory where it lies in large pieces.
        size: how many there are.
        out: how many of them the present try has sent.
        tag: the store's name for the part, once it has it.
        expires: see ``crew.Task``.
    """

    url: str = field(repr=False)
    body: Sequence[memoryview] = field(repr=False)
    size: int
    out: int = 0
    tag: str = ""
    expires: float = float("inf")


def upload(
    payload: Encoded,
    part_size: int,
    url: Callable[[int], str],
    sent: Callable[[int], None],
    stop: threading.Event,
    *,
    threads: int | None = None,
    patience: Patience | None = None,
    deadlines: Deadlines | None = None,
) -> tuple[str, list[str]]:
    """Send ``payload`` in parts. A part is sent again if that can help.

    Held at a time are the encoder's chunks that belong to ``threads + 1`` parts.

    Args:
        payload: what to send; read once.
        part_size: bytes of each part but the last.
        url: signed, for a part's index; called once per part, on the calling thread.
        sent: hears, on the calling thread, how many bytes are out so far.
        stop: ends the upload within a second.
        threads: how many parts at once; None: by the size.
        patience: with each part.
        deadlines: of each request.

    Returns:
        The checksum (``STRONG``), and the store's tags of the parts in order.

    Raises:
        TransferError: if it did not succeed; says why.
    """
    running = Checksum(STRONG)
    deadlines = deadlines or Deadlines()
    parts: list[Part] = []
    told = 0

    def watch() -> None:
        nonlocal told
        out = sum(part.out for part in parts)
        if out > told:
            told = out
            sent(out)

    def build() -> Iterator[Part]:
        for body, size in cut(payload.chunks(), part_size, running.update):
            parts.append(Part(url(len(parts)), body, size))
            yield parts[-1]

    def send(session: requests.Session, part: Part) -> None:
        def see(size: int) -> None:
            crew.halted()
            part.out += size

        part.out = 0
        part.expires = time.monotonic() + deadlines.seconds(part.size)
        try:
            body = Body(part.body, part.size, see)
            with exchange(session, "PUT", part.url, "the upload of a part", deadlines, body) as answer:
                part.tag = answer.headers.get("ETag", "")
        finally:
            part.expires = float("inf")
        part.body = ()

    with Crew(send, threads or threads_for(payload.size), WHAT, stop, watch, patience) as crew:
        crew.give(build())
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
