"""Small payloads inside the reference itself, in base64."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence

from appfl_gc.payload import checksum
from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.files import write_all
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

DEFAULT_LIMIT = 5_000_000


class InlineStore:
    """Keeps payloads of up to ``limit`` raw bytes (a third more in base64) in the reference."""

    scheme = "inline"
    remote = False

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """See ``Store.put``."""
        if payload.size > self.limit:
            raise TransferError(
                f"The payload has {payload.size:,} bytes; those inside a message may have {self.limit:,}.",
                "Configure a store that server and sites share for larger models.",
            )
        data = b"".join(payload.chunks())
        locator = base64.b64encode(data).decode("ascii")
        sent(len(data))
        return Ref(self.scheme, locator, len(data), checksum.of(memoryview(data)), payload.codec)

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """See ``Store.fetch``; also refused is what is larger than ``limit``, before it takes memory."""
        if ref.size > self.limit:
            raise TransferError(
                f"An inline payload of {ref.size:,} bytes arrived; those inside a message may have {self.limit:,}."
            )
        if len(ref.locator) != 4 * ((ref.size + 2) // 3):
            raise TransferError(f"An inline payload of {ref.size:,} bytes has text of another length.")
        try:
            data = base64.b64decode(ref.locator.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise TransferError("An inline payload is not base64.") from None
        if len(data) != ref.size:
            raise TransferError(f"An inline payload has {len(data):,} bytes instead of {ref.size:,}.")
        write_all(file, memoryview(data))
        arrived(ref.size)

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``; always None."""
        return None

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``: the payload goes with its reference."""

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """See ``Store.grant``."""
        return {"scheme": self.scheme, "limit": self.limit}

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """See ``Store.withdraw``: there is nothing to end."""

    def mailbox(self, public: Mapping[str, Json] | None = None) -> None:
        """See ``Store.mailbox``; there are none."""

    def sweep(self) -> None:
        """See ``Store.sweep``: the run directory's owner removes it."""

    def close(self) -> None:
        """See ``Store.close``."""
