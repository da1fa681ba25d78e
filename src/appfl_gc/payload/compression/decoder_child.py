"""The process that decodes streams which may be hostile: confined, and able to answer with one byte only."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys

import numpy as np

from appfl_gc.payload.compression import foreign
from appfl_gc.payload.compression.confinement import confine
from appfl_gc.payload.compression.installed import require

REQUEST = struct.Struct("<16sBQQ")
"""Compressor, bytes of a number (4 or 8), bytes of the stream, count of numbers."""
READY, DONE, REFUSED = b"r", b"d", b"x"
SECONDS = 60
"""For one piece; then the process ends."""
_MEMORY = 1 << 28
_LIFE_SECONDS = 24 * 3600


def main() -> None:
    """Decode requests from standard input until it ends.

    Arguments: the descriptor of a shared file, bytes of its first half, bytes of its second half, and the
    packages to load. Streams lie at the start of the first half, numbers are written to the second.
    """
    descriptor, streams, numbers = (int(text) for text in sys.argv[1:4])
    for package in sys.argv[4:]:
        require(package)
    shared = mmap.mmap(descriptor, streams + numbers)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    confine(_MEMORY + 4 * (streams + numbers), _LIFE_SECONDS)
    os.write(1, READY)
    while len(request := _read(REQUEST.size)) == REQUEST.size:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        os.write(1, DONE if _decode(request, shared, streams) else REFUSED)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _decode(request: bytes, shared: mmap.mmap, streams: int) -> bool:
    name, width, length, count = REQUEST.unpack(request)
    dtype = np.float32 if width == np.dtype(np.float32).itemsize else np.float64
    stream = np.frombuffer(shared, np.uint8, length)
    try:
        result = foreign.decode(name.rstrip(b"\0").decode(), stream, dtype, count)
    except Exception:  # noqa: BLE001 - whatever a damaged stream causes; nothing about it is repeated
        return False
    np.frombuffer(shared, dtype, count, streams)[:] = result
    return True


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size and (part := os.read(0, size - len(data))):
        data += part
    return data
