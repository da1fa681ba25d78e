"""Tensors compressed into a payload, and back (see ``unpacking``)."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appfl_gc.payload.codec import Layout
from appfl_gc.payload.compression import piece_encoder
from appfl_gc.payload.compression.bounds import Bound, bound_for
from appfl_gc.payload.compression.container import Stream, head, largest
from appfl_gc.payload.compression.installed import check_installed
from appfl_gc.payload.compression.numbers import numbers
from appfl_gc.payload.compression.piece_encoder import EncodedPiece
from appfl_gc.payload.compression.plan import KEEP_ALL, Piece, cut, stretches
from appfl_gc.payload.files import nameless_file, write_all_at
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import PACKED


class Tensors(Protocol):
    """A payload of the plain codec, such as ``codec.Encoding``."""

    @property
    def layout(self) -> Layout:
        """What it holds."""

    def chunks(self) -> Iterator[memoryview]:
        """Its bytes in order: the layout's header, then the data."""


@dataclass(frozen=True)
class Packed:
    """A compressed payload (an ``Encoded``). Its bytes lie in a nameless file, mapped.

    Attributes:
        size: bytes.
        ratio: bytes before by bytes after.
        largest_error: largest absolute difference of a number to what it will be decoded to.
    """

    size: int
    ratio: float
    largest_error: float
    _parts: Sequence[memoryview]

    @property
    def codec(self) -> str:
        """See ``Encoded.codec``."""
        return PACKED

    def chunks(self) -> Iterator[memoryview]:
        """See ``Encoded.chunks``."""
        return iter(self._parts)


def largest_packed(layout: Layout) -> int:
    """No packed payload of ``layout`` has more bytes, whatever the settings."""
    return largest(layout)


def pack(
    tensors: Tensors, settings: CompressionSettings, directory: Path | None = None, threads: int | None = None
) -> Packed:
    """Compress ``tensors``, several pieces at a time. The same tensors and versions give the same bytes.

    Memory beyond the tensors: some times ``plan.PIECE_BYTES`` for each thread.

    Args:
        tensors: read once, tensor by tensor.
        settings: how.
        directory: where the compressed bytes lie; None for the system's temporary directory.
        threads: how many; None for the usable cores.

    Raises:
        VersionError: if a package for the compressors is not installed.
        TransferError: if the directory has no room.
    """
    check_installed(settings)
    layout = tensors.layout
    cutoff = KEEP_ALL if settings.lossy is None else settings.cutoff
    with nameless_file(0, directory) as file:
        shelf = _Shelf(file.fileno(), str(directory or "the directory for temporary files"))

        def work(task: _Task) -> None:
            shelf.add(task.index, piece_encoder.encode(task.piece, task.data, task.bound, settings))

        for_each(_tasks(tensors, cutoff, settings), work, threads)
        return shelf.payload(layout, cutoff)


@dataclass(frozen=True)
class _Task:
    index: int
    piece: Piece
    data: memoryview
    bound: Bound | None


def _tasks(tensors: Tensors, cutoff: int, settings: CompressionSettings) -> Iterator[_Task]:
    """The pieces with their data, made when they are asked for."""
    source = _Source(tensors.chunks())
    source.take(tensors.layout.start)
    index = 0
    for stretch in stretches(tensors.layout, cutoff):
        # A stretch that may change is one tensor: its range is looked at before it is cut.
        whole = None if stretch.exact else source.take(stretch.nbytes)
        bound = None
        if whole is not None:
            bound = bound_for(settings, numbers(whole, stretch.dtype))
        for piece in cut(stretch):
            start = piece.offset - stretch.offset
            data = source.take(piece.nbytes) if whole is None else whole[start : start + piece.nbytes]
            yield _Task(index, piece, data, bound)
            index += 1


class _Source:
    """Bytes out of chunks: slices of them where possible, copies where they span chunks."""

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def take(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = next(self._chunks).cast("B")
        if len(self._rest) >= size:
            taken, self._rest = self._rest[:size], self._rest[size:]
            return taken
        copied = bytearray()
        while len(copied) < size:
            copied += self.take(min(size - len(copied), len(self._rest) or 1))
        return memoryview(copied)


class _Shelf:
    """Streams as they come, in a file; in order when they are read."""

    def __init__(self, fd: int, where: str) -> None:
        self._fd, self._where = fd, where
        self._lock = threading.Lock()
        self._end = 0
        self._error = 0.0
        self._placed: dict[int, tuple[int, Stream]] = {}

    def add(self, index: int, piece: EncodedPiece) -> None:
        with self._lock:
            offset, self._end = self._end, self._end + len(piece.data)
            self._placed[index] = (offset, piece.stream)
            self._error = max(self._error, piece.error)
        try:
            write_all_at(self._fd, piece.data, offset)
        except OSError as error:
            raise TransferError(
                f"Compressed bytes cannot be written to {self._where}: {error.strerror}.",
                "TMPDIR names the directory for temporary files.",
            ) from None

    def payload(self, layout: Layout, cutoff: int) -> Packed:
        placed = [self._placed[index] for index in range(len(self._placed))]
        first = memoryview(head(layout, cutoff, [stream for _, stream in placed]))
        parts = [first]
        if self._end:
            data = memoryview(mmap.mmap(self._fd, self._end, prot=mmap.PROT_READ))
            parts += [data[offset : offset + stream.size] for offset, stream in placed]
        size = len(first) + self._end
        return Packed(size, layout.size / size, self._error, tuple(parts))
