"""Parts: a payload lies in a connector as objects of a fixed size, so that no object limit is met.

Object i of the payload with base name B is called ``B-i``. All but the last have the same size, which both sides
know: the number and the sizes of the objects follow from the payload's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from appfl_gc.payload.files import write_all_at
from appfl_gc.payload.local_disk import not_written
from appfl_gc.protocol.errors import TransferError

MOST_PARTS = 100_000


class Landing:
    """Where one part arrives: a stretch of a file. What has arrived is reported and never written again.

    So nobody can let the receiver verify other bytes than those that stay, by breaking off and sending others.

    Args:
        file: descriptor, open for writing.
        offset: where in the file the part begins.
        size: bytes of the part.
        arrived: hears how many bytes of the file are there, from its beginning.
    """

    def __init__(self, file: int, offset: int, size: int, arrived: Callable[[int], None]) -> None:
        self.size, self.landed = size, 0
        self._file, self._offset, self._arrived = file, offset, arrived

    @property
    def left(self) -> int:
        """Bytes that are still to come."""
        return self.size - self.landed

    def write(self, data: memoryview) -> None:
        """Take in the next bytes.

        Raises:
            TransferError: if they are too many.
            StorageError: if the file does not take them; that is not tried again.
        """
        if len(data) > self.left:
            raise TransferError("The store sent more bytes of a payload than were announced.")
        try:
            write_all_at(self._file, data, self._offset + self.landed)
        except OSError as error:
            raise not_written(self._file, error) from None
        self.landed += len(data)
        self._arrived(self._offset + self.landed)


class Parts(Protocol):
    """Objects of a connector by name. Safe for use by several threads.

    Trouble that may pass is raised as ``retry.PassingError``; the caller tries again. Whatever else is wrong is a
    ``TransferError``.
    """

    @property
    def part_bytes(self) -> int:
        """Bytes of the objects that suit the connector."""

    @property
    def streams(self) -> bool:
        """Whether ``put`` takes a part piece by piece, and therefore once; otherwise it is tried again."""

    @property
    def places(self) -> Sequence[str]:
        """Where objects may lie: what ``put`` can return, on both sides."""

    def put(self, name: str, part: Iterable[memoryview], sent: Callable[[int], None]) -> str:
        """Store an object, given in pieces; ``sent`` hears how many bytes are out.

        Returns where it lies, if the name alone does not say it, else "".
        """

    def get(self, name: str, where: str, landing: Landing) -> None:
        """Fetch what is left of an object; nothing of one that has another size than the landing."""

    def open(self, name: str, where: str, size: int) -> int | None:
        """A descriptor of the file of ``size`` bytes that an object is, or None if it is none."""

    def holds(self, name: str, where: str) -> bool:
        """Whether there is an object. Whether the run is stopping or not, there is an answer or an error soon."""

    def drop(self, name: str, where: str) -> None:
        """Delete an object, if there is one; as ``holds``."""

    def tidy(self) -> None:
        """Delete what puts that were killed have left and nobody waits for, where that can be told."""

    def close(self) -> None:
        """Drop connections, end what still waits, and delete nothing; may be called again."""


def part_name(base: str, number: int) -> str:
    """The name of part ``number``, from 0."""
    return f"{base}-{number}"


def part_places(base: str, size: int, part_bytes: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each part of a payload of ``size`` bytes.

    Raises:
        TransferError: if there would be absurdly many, by a size that another party claims.
    """
    if -(-size // part_bytes) > MOST_PARTS:
        raise TransferError(f"A payload of {size:,} bytes would lie in more than {MOST_PARTS:,} parts.")
    for number, offset in enumerate(range(0, size, part_bytes)):
        yield part_name(base, number), offset, min(part_bytes, size - offset)


def joined(part: Iterable[memoryview]) -> memoryview:
    """A part as one piece, without a copy if it is one."""
    pieces = list(part)
    return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))


def split(chunks: Iterable[memoryview], part_bytes: int) -> Iterator[list[memoryview]]:
    """``chunks`` cut into parts of ``part_bytes`` bytes; the last may be shorter. Nothing is copied."""
    part: list[memoryview] = []
    left = part_bytes
    for chunk in chunks:
        rest = chunk.cast("B")
        while rest:
            part.append(rest[:left])
            rest, left = rest[left:], left - len(part[-1])
            if left == 0:
                yield part
                part, left = [], part_bytes
    if part:
        yield part
