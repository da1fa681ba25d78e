"""A compressed payload as tensors again. The payload may be anybody's: nothing that it says is believed."""

from __future__ import annotations

import numpy as np
import torch

from appfl_gc.payload.codec import Layout
from appfl_gc.payload.compression import container, lossless, quantised
from appfl_gc.payload.compression.container import Stream
from appfl_gc.payload.compression.decoder import Decoders
from appfl_gc.payload.compression.numbers import numbers
from appfl_gc.payload.compression.plan import Piece
from appfl_gc.payload.cores import available_cores
from appfl_gc.payload.workers import MOST_THREADS, for_each
from appfl_gc.protocol.compression import BOUNDED, CompressionSettings
from appfl_gc.protocol.errors import UpdateRefusedError

_WORTH_A_PROCESS = 1 << 25
"""Bytes of numbers that pay for starting one more decoding process."""


def unpack_into(
    payload: memoryview,
    layout: Layout,
    out: memoryview,
    settings: CompressionSettings | None = None,
    threads: int | None = None,
) -> None:
    """Decode a packed payload in place. Numbers are not checked to be finite.

    Args:
        payload: its bytes.
        layout: what it must hold.
        out: ``layout.size`` bytes, writable; afterwards the payload of the plain codec.
        settings: what the sender was to use; streams of other compressors are refused. None: all are taken.
        threads: how many; None for the usable cores.

    Raises:
        UpdateRefusedError: if it is damaged, was made of other tensors, or by another compressor. ``out`` may
            then hold anything.
        VersionError: if a package for the compressors is not installed.
        TransferError: if a decoding process does not start.
    """
    entries = container.read(payload, layout)
    if settings is not None:
        for _, stream, _ in entries:
            if stream.method not in (None, settings.lossy) or stream.wrap not in (None, settings.lossless):
                raise UpdateRefusedError(
                    f"A piece is compressed by {stream.method or stream.wrap}, which was not asked for."
                )
    out[: layout.start] = layout.header
    data = out[layout.start : layout.size]
    count = threads or min(available_cores(), MOST_THREADS)
    names = {stream.method for _, stream, _ in entries if stream.method in BOUNDED}
    foreign = sum(piece.nbytes for piece, stream, _ in entries if stream.method in BOUNDED)
    with Decoders({name for name in names if name}, min(count, 1 + foreign // _WORTH_A_PROCESS)) as decoders:

        def work(entry: tuple[Piece, Stream, memoryview]) -> None:
            piece, stream, packed = entry
            _decode(piece, stream, packed, data[piece.offset : piece.offset + piece.nbytes], decoders)

        for_each(entries, work, min(count, max(len(entries), 1)))


def _decode(piece: Piece, stream: Stream, packed: memoryview, out: memoryview, decoders: Decoders) -> None:
    method = stream.method
    if method in BOUNDED and method is not None:
        _foreign(piece, method, packed, out, decoders)
        return
    width = container.plain_width(piece, method)
    if method is None:
        if stream.wrap is None:
            out[:] = packed
        else:
            lossless.decompress(packed, stream.wrap, width, out)
        return
    plain = memoryview(bytearray(container.plain_size(piece, method)))
    if stream.wrap is None:
        plain[:] = packed
    else:
        lossless.decompress(packed, stream.wrap, width, plain)
    quantised.decode(method, plain, numbers(out, piece.dtype))


def _foreign(piece: Piece, method: str, packed: memoryview, out: memoryview, decoders: Decoders) -> None:
    if piece.width >= np.dtype(np.float32).itemsize:
        decoders.decode(method, packed, np.frombuffer(out, np.float64 if piece.width == 8 else np.float32))
        return
    wide = np.empty(piece.numel, np.float32)
    decoders.decode(method, packed, wide)
    numbers(out, piece.dtype).copy_(torch.from_numpy(wide))
