"""One piece of a tensor as a stream: by the lossy compressor if the bound is kept, otherwise without loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from appfl_gc.payload.compression import foreign, lossless, quantised
from appfl_gc.payload.compression.bounds import Bound
from appfl_gc.payload.compression.container import Stream, plain_width
from appfl_gc.payload.compression.numbers import numbers
from appfl_gc.payload.compression.plan import Piece
from appfl_gc.protocol.compression import BOUNDED, CompressionSettings

_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class EncodedPiece:
    """A piece as it goes into a payload.

    Attributes:
        stream: how it is stored.
        data: its bytes, ``stream.size`` of them.
        error: largest absolute error of its numbers.
    """

    stream: Stream
    data: memoryview
    error: float = 0.0


def encode(
    piece: Piece, data: memoryview, bound: Bound | None, settings: CompressionSettings
) -> EncodedPiece:
    """``data``, the bytes of ``piece``, as short as ``settings`` make it.

    What a lossy compressor made is decoded and compared: where it violates ``bound``, or is no shorter, every
    bit is kept. The same data give the same stream.

    Args:
        piece: which.
        data: ``piece.nbytes`` bytes, writable or not.
        bound: what may happen to them; None: nothing.
        settings: the compressors.

    Raises:
        VersionError: if a package for them is not installed.
    """
    lossy = settings.lossy
    if not piece.exact and bound is not None and lossy is not None:
        before = numbers(data, piece.dtype)
        if lossy in BOUNDED:
            found = _bounded(lossy, before, bound)
        else:
            found = _fewer_bits(piece, lossy, before, bound, settings)
        if found is not None and len(found.data) < piece.nbytes:
            return found
    return _wrapped(piece, None, data, settings)


def _bounded(name: str, before: torch.Tensor, bound: Bound) -> EncodedPiece | None:
    half = before.dtype in _HALVES
    wide: Any = (before.to(torch.float32) if half else before).numpy()
    for step in bound.steps():
        try:
            # Rounding back to 16 bits at most doubles an error: it stays 0 below half a unit in the last place.
            data = foreign.encode(name, wide, step / 2 if half else step)
            decoded = foreign.decode(name, np.frombuffer(data, np.uint8), wide.dtype, len(wide))
        except (OverflowError, RuntimeError, ValueError):
            continue
        error = bound.keeps(before, torch.from_numpy(decoded).to(before.dtype))
        if error is not None:
            return EncodedPiece(Stream(name, None, len(data)), data, error)
    return None


def _fewer_bits(
    piece: Piece, name: str, before: torch.Tensor, bound: Bound, settings: CompressionSettings
) -> EncodedPiece | None:
    if quantised.encoded_size(name, piece.numel) >= piece.nbytes:
        return None
    data = quantised.encode(name, before)
    decoded = torch.empty_like(before)
    quantised.decode(name, data, decoded)
    error = bound.keeps(before, decoded)
    return None if error is None else _wrapped(piece, name, data, settings, error)


def _wrapped(
    piece: Piece, method: str | None, data: memoryview, settings: CompressionSettings, error: float = 0.0
) -> EncodedPiece:
    if settings.lossless is not None:
        shorter = lossless.compress(data, settings.lossless, plain_width(piece, method))
        if len(shorter) < len(data):
            stream = Stream(method, settings.lossless, len(shorter))
            return EncodedPiece(stream, memoryview(shorter), error)
    return EncodedPiece(Stream(method, None, len(data)), data, error)
