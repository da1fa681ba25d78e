"""Checksums of payloads: ``algorithm:hexadecimal``, so that a store may ask for a stronger algorithm later.

XXH3 with 128 bits (https://xxhash.com) finds accidents, at about the speed of memory. It is no signature:
whoever can write the bytes can also write their checksum.
"""

from __future__ import annotations

from typing import Protocol

import xxhash

from appfl_gc.protocol.errors import TransferError

ALGORITHM = "xxh3-128"


class Hasher(Protocol):
    """A running checksum."""

    def update(self, data: memoryview, /) -> None:
        """Take in the next bytes (releases the interpreter lock for large ones)."""

    def hexdigest(self) -> str:
        """The checksum so far, hexadecimal."""


def start(algorithm: str = ALGORITHM) -> Hasher:
    """A new checksum.

    Raises:
        TransferError: if the algorithm is unknown to this version.
    """
    if algorithm != ALGORITHM:
        raise TransferError(f"The payload's checksum is of another algorithm than {ALGORITHM}.")
    hasher: Hasher = xxhash.xxh3_128()
    return hasher


def start_for(checksum: str) -> Hasher:
    """A new checksum of the algorithm that ``checksum`` names; raises ``TransferError`` as ``start``."""
    return start(checksum.partition(":")[0])


def text(hasher: Hasher) -> str:
    """The checksum as it stands in a reference."""
    return f"{ALGORITHM}:{hasher.hexdigest()}"


def of(data: memoryview) -> str:
    """The checksum of ``data``."""
    hasher = start()
    hasher.update(data)
    return text(hasher)


def check(data: memoryview, checksum: str, what: str) -> None:
    """Raise ``TransferError`` unless ``data`` has this checksum."""
    hasher = start_for(checksum)
    hasher.update(data)
    if text(hasher) != checksum:
        raise TransferError(f"{what} arrived with other bytes than were sent: its checksum differs.")
