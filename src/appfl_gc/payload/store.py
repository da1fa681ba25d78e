"""What a payload store does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from appfl_gc.payload.codec import Encoding
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json


class Store(Protocol):
    """Moves payloads. Nothing that a reference says is believed: it may come from another party."""

    @property
    def scheme(self) -> str:
        """What ``Ref.scheme`` says of payloads in this store."""

    def put(self, encoding: Encoding) -> Ref:
        """Store a payload.

        Raises:
            TransferError: if the store does not take it; says why.
        """

    def open(self, ref: Ref) -> AbstractContextManager[memoryview]:
        """The payload's bytes, checksum and size verified. Writing to them changes this process's copy only.

        Views made of them stay valid after the block, as long as they are used.

        Raises:
            TransferError: if the payload is gone, or differs from what the reference says.
        """

    def descriptor(self, ref: Ref) -> int | None:
        """A descriptor, open for reading, of the regular file of ``ref.size`` bytes that holds the payload.

        The caller verifies the checksum and closes it. None if the payload lies in no file.

        Raises:
            TransferError: if the payload is gone or has another size.
        """

    def evict(self, ref: Ref) -> None:
        """Forget a payload; nothing happens if it is gone already."""

    def grant(self) -> dict[str, Json]:
        """What a site needs to open payloads and to put one reply here (see ``stores.from_grant``).

        Each grant names another place, so that the server knows whose a payload is.
        """
