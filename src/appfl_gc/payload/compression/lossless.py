"""Bytes made shorter without loss, after bytes of equal weight of neighbouring numbers are put together.

Neighbouring weights differ in every low byte, but share signs and exponents; side by side, those compress. A
decoder never makes more bytes than it is asked for.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Any

import numpy as np

from appfl_gc.payload.compression.installed import require
from appfl_gc.protocol.compression import ZSTD
from appfl_gc.protocol.errors import UpdateRefusedError

_WINDOW = {"zlib": 15, "gzip": 31}
_LEVEL = 1
"""The low bytes of weights are noise, on which higher levels spend time in vain."""
_LZMA_MEMORY = 1 << 26


def compress(data: memoryview, name: str, width: int) -> bytes:
    """``data`` by the compressor ``name`` (of ``settings.LOSSLESS``); the same bytes for the same data.

    Args:
        data: a whole number of items.
        name: of the compressor.
        width: bytes of an item.

    Raises:
        VersionError: if the package for it is not installed.
    """
    turned = _planes(data, width)
    if name == ZSTD:
        compressor = require("zstandard").ZstdCompressor(level=_LEVEL, write_content_size=True)
        return bytes(compressor.compress(turned))
    if name in _WINDOW:
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW[name])
        return deflate.compress(turned) + deflate.flush()
    return lzma.compress(turned, lzma.FORMAT_XZ, preset=_LEVEL)


def decompress(stream: memoryview, name: str, width: int, out: memoryview) -> None:
    """Fill ``out`` with what ``compress`` was given.

    Raises:
        UpdateRefusedError: if the stream is damaged, or holds more or less than ``out``; found out without
            more memory than ``out`` takes.
        VersionError: if the package for it is not installed.
    """
    size = len(out)
    if name == ZSTD:
        plain = _unzstd(stream, size)
    elif name in _WINDOW:
        inflate = zlib.decompressobj(_WINDOW[name])
        plain = _bounded(inflate, stream, size, zlib.error)
    else:
        plain = _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, _LZMA_MEMORY), stream, size, lzma.LZMAError)
    if len(plain) != size:
        raise _refused(size)
    if width == 1:
        out[:] = plain
        return
    target = np.frombuffer(out, np.uint8).reshape(-1, width)
    target[...] = np.frombuffer(plain, np.uint8).reshape(width, -1).T


def _planes(data: memoryview, width: int) -> Any:
    flat = np.frombuffer(data, np.uint8)
    return flat if width == 1 else np.ascontiguousarray(flat.reshape(-1, width).T).reshape(-1)


def _unzstd(stream: memoryview, size: int) -> bytes:
    zstandard = require("zstandard")
    try:
        # The size in the frame is what would be allocated, so it comes first.
        if zstandard.frame_content_size(stream) != size:
            raise _refused(size)
        return bytes(zstandard.ZstdDecompressor().decompress(stream, size, allow_extra_data=False))
    except zstandard.ZstdError:
        raise _refused(size) from None


def _bounded(decompressor: Any, stream: memoryview, size: int, failure: type[Exception]) -> bytes:
    try:
        # One byte more than wanted also lets the decompressor reach the end of a stream that is as it should be.
        plain: bytes = decompressor.decompress(stream, size + 1)
    except failure:
        raise _refused(size) from None
    if not decompressor.eof or decompressor.unused_data:
        raise _refused(size)
    return plain


def _refused(size: int) -> UpdateRefusedError:
    return UpdateRefusedError(f"A compressed piece is damaged or does not hold {size:,} bytes.")
