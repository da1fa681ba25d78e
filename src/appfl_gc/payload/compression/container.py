"""The format ``packed-1``: a fixed header, one entry per piece of the plan, then the pieces' streams in order.

Little-endian. Header: magic, SHA-256 of the layout's header, cutoff, count of pieces. Entry: compressor,
lossless compressor on top, bytes of the stream. Where pieces lie and what they hold follows from the layout.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from appfl_gc.payload.codec import Layout
from appfl_gc.payload.compression import quantised
from appfl_gc.payload.compression.plan import KEEP_ALL, Piece, most_pieces, pieces
from appfl_gc.protocol.compression import BOUNDED, LOSSLESS, LOSSY
from appfl_gc.protocol.errors import UpdateRefusedError

_MAGIC = b"APPFLGCP"
_HEADER = struct.Struct("<8s32sQQ")
_ENTRY = struct.Struct("<BBxxxxxxQ")
_METHODS: tuple[str | None, ...] = (None, *LOSSY)
_WRAPS: tuple[str | None, ...] = (None, *LOSSLESS)


@dataclass(frozen=True)
class Stream:
    """How one piece is stored.

    Attributes:
        method: one of ``LOSSY``; None: its bytes as they are.
        wrap: one of ``LOSSLESS`` that was applied after that; None: none. SZ3 and ZFP have none.
        size: bytes, from 1 to those of the piece.
    """

    method: str | None
    wrap: str | None
    size: int


def plain_size(piece: Piece, method: str | None) -> int:
    """Bytes of ``piece`` before the lossless compressor; not for SZ3 and ZFP."""
    return piece.nbytes if method is None else quantised.encoded_size(method, piece.numel)


def plain_width(piece: Piece, method: str | None) -> int:
    """Bytes of an item before the lossless compressor; not for SZ3 and ZFP."""
    return piece.width if method is None else quantised.width(method)


def head(layout: Layout, cutoff: int, streams: Sequence[Stream]) -> bytes:
    """What comes before the streams."""
    digest = hashlib.sha256(layout.header).digest()
    table = (_ENTRY.pack(_METHODS.index(s.method), _WRAPS.index(s.wrap), s.size) for s in streams)
    return _HEADER.pack(_MAGIC, digest, cutoff, len(streams)) + b"".join(table)


def largest(layout: Layout) -> int:
    """The most bytes that a packed payload of ``layout`` has."""
    return _HEADER.size + _ENTRY.size * most_pieces(layout) + layout.spec.nbytes


def read(payload: memoryview, layout: Layout) -> list[tuple[Piece, Stream, memoryview]]:
    """The pieces of ``layout`` with how they are stored and their streams.

    Raises:
        UpdateRefusedError: if the payload was not made of ``layout``, or its sizes do not add up; nothing is
            allocated for what it declares.
    """
    if len(payload) < _HEADER.size or payload[:8] != _MAGIC:
        raise UpdateRefusedError("The payload is no compressed payload of this version.")
    _, digest, cutoff, count = _HEADER.unpack_from(payload)
    if digest != hashlib.sha256(layout.header).digest():
        raise UpdateRefusedError(
            "The compressed payload holds other tensors than expected: names, shapes, dtypes or meanings differ."
        )
    plan = pieces(layout, min(cutoff, KEEP_ALL))
    start = _HEADER.size + _ENTRY.size * count
    if count != len(plan) or start > len(payload):
        raise UpdateRefusedError("The compressed payload is cut short, or has another number of pieces.")
    result = []
    for piece, fields in zip(plan, _ENTRY.iter_unpack(payload[_HEADER.size : start]), strict=True):
        stream = _checked(piece, *fields)
        result.append((piece, stream, payload[start : start + stream.size]))
        start += stream.size
    if start != len(payload):
        raise UpdateRefusedError("The compressed payload's pieces do not add up to its size.")
    return result


def _checked(piece: Piece, method: int, wrap: int, size: int) -> Stream:
    if method >= len(_METHODS) or wrap >= len(_WRAPS):
        raise UpdateRefusedError("A piece is compressed in a way that this version does not know.")
    stream = Stream(_METHODS[method], _WRAPS[wrap], size)
    bounded = stream.method in BOUNDED
    fits = 0 < size <= piece.nbytes and (
        bounded or stream.wrap is not None or size == plain_size(piece, stream.method)
    )
    if not fits or (piece.exact and stream.method is not None) or (bounded and stream.wrap is not None):
        raise UpdateRefusedError("A compressed piece does not fit the tensor that it is for.")
    return stream
