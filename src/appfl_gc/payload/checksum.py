"""Checksums of payloads: ``algorithm:hexadecimal``.

XXH3 with 128 bits (https://xxhash.com) finds accidents, at about the speed of memory: for payloads that never
leave the hands of the two parties. BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) is cryptographic: for
payloads in a store that others can write to, since checksums travel by the control plane.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import xxhash
from blake3 import blake3

from appfl_gc.protocol.errors import TransferError

FAST = "xxh3-128"
STRONG = "blake3"
_PIECE = 1 << 21


class Hasher(Protocol):
    """What the libraries have in common."""

    def update(self, data: memoryview, /) -> object:
        """Take in the next bytes."""

    def hexdigest(self) -> str:
        """The checksum so far, hexadecimal."""


class Checksum:
    """A running checksum of one algorithm.

    Raises:
        TransferError: if the algorithm is unknown to this version.
    """

    def __init__(self, algorithm: str = FAST) -> None:
        if algorithm not in (FAST, STRONG):
            raise TransferError(f"The payload's checksum is of another algorithm than {FAST} and {STRONG}.")
        self._algorithm = algorithm
        self._hasher: Hasher = xxhash.xxh3_128() if algorithm == FAST else blake3()

    @classmethod
    def like(cls, checksum: str) -> Checksum:
        """A new checksum of the algorithm that ``checksum`` names; raises as the class."""
        return cls(checksum.partition(":")[0])

    def update(self, data: memoryview) -> None:
        """Take in the next bytes (releases the interpreter lock for large ones)."""
        self._hasher.update(data)

    def __str__(self) -> str:
        """The checksum so far, as it stands in a reference."""
        return f"{self._algorithm}:{self._hasher.hexdigest()}"


def of(data: memoryview, algorithm: str = FAST) -> str:
    """The checksum of ``data``."""
    running = Checksum(algorithm)
    running.update(data)
    return str(running)


def of_file(path: Path, algorithm: str = FAST) -> str:
    """The checksum of a file, which is read piece by piece; raises ``OSError``."""
    running = Checksum(algorithm)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            running.update(memoryview(piece))
    return str(running)


def check(data: memoryview, checksum: str, what: str) -> None:
    """Raise ``TransferError`` unless ``data`` has this checksum."""
    running = Checksum.like(checksum)
    running.update(data)
    verify(running, checksum, what)


def verify(running: Checksum, checksum: str, what: str) -> None:
    """Raise ``TransferError`` unless ``running`` came to ``checksum``."""
    if str(running) != checksum:
        raise TransferError(f"{what} arrived with other bytes than were sent: its checksum differs.")
