"""What is put into a store: bytes of a known number that can be read from the start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from appfl_gc.payload import model_file


class Encoded(Protocol):
    """A payload to be stored. Its bytes can be read more than once and are then the same."""

    @property
    def codec(self) -> str:
        """How the bytes were made from tensors, as ``Ref.codec`` says it."""

    @property
    def size(self) -> int:
        """How many bytes there are."""

    def chunks(self) -> Iterator[memoryview]:
        """The bytes in order. What was yielded is not changed while the payload is put: parts are sent later."""


class MappedFile:
    """A payload that is a file already; it is mapped, not read.

    Args:
        path: of the file, which must not change.
        codec: how its bytes were made.

    Raises:
        TransferError: if the file cannot be read.
    """

    def __init__(self, path: Path, codec: str) -> None:
        self.path = path
        self.codec = codec
        self._bytes = model_file.mapped(path)

    @property
    def size(self) -> int:
        """See ``Encoded.size``."""
        return len(self._bytes)

    def chunks(self) -> Iterator[memoryview]:
        """See ``Encoded.chunks``; one chunk."""
        yield self._bytes
