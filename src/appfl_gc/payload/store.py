"""What a payload store does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

if TYPE_CHECKING:
    # Torch comes with it, which a store does not need.
    from appfl_gc.payload.encoded import Encoded
    from appfl_gc.payload.mailbox.base import ServerMailbox


def ignore(_done: int) -> None:
    """Hears of progress and does nothing."""


class Store(Protocol):
    """Moves payloads. Nothing that a reference says is believed: it may come from another party."""

    @property
    def scheme(self) -> str:
        """What ``Ref.scheme`` says of payloads in this store."""

    @property
    def remote(self) -> bool:
        """Whether others run the store: its payloads are encrypted if asked, and a site keeps a copy of its own."""

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """Store a payload. ``sent`` hears how many bytes are out so far.

        Raises:
            TransferError: if the store does not take it; says why.
        """

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """Write the payload's bytes into an empty regular file.

        The checksum is the caller's to verify, as bytes arrive.

        Args:
            ref: which payload. No more than ``ref.size`` bytes are written.
            file: descriptor, open for writing.
            arrived: hears, on the calling thread, that the first n bytes are in the file; last with ``ref.size``.

        Raises:
            TransferError: if the payload is gone or has another size.
        """

    def descriptor(self, ref: Ref) -> int | None:
        """A descriptor, open for reading, of the regular file of ``ref.size`` bytes that holds the payload.

        The caller verifies the checksum and closes it. None if the payload lies in no file.

        Raises:
            TransferError: if the payload is gone or has another size.
        """

    def evict(self, ref: Ref) -> None:
        """Forget a payload; nothing happens if it is gone already.

        Raises:
            TransferError: if the store can't be reached, or the reference is not one of this store.
        """

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """What a site needs to fetch ``read`` and to put one reply of up to ``largest`` bytes (see ``from_grant``).

        Each grant names another place as its ``locator``, so that the server knows whose a payload is.

        Raises:
            TransferError: if the store can't be reached.
        """

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """The payload of ``grant`` will not come, or is not wanted: end what was begun for it.

        Raises:
            TransferError: if the store can't be reached.
        """

    def mailbox(self, public: Mapping[str, Json] | None = None) -> ServerMailbox | None:
        """A new mailbox for one call; None where the store has none.

        Args:
            public: ``ServerMailbox.public`` of a mailbox that was made before, also by an earlier process; that one
                is then returned.

        Raises:
            TransferError: if the store can't be reached, or never gave ``public``.
        """

    def sweep(self) -> object:
        """The run is over: remove what is left of it, as far as the store tells whose things are.

        Raises:
            TransferError: if the store can't be reached.
        """

    def close(self) -> None:
        """Drop connections. Deletes nothing; may be called again."""
