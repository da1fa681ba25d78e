"""Small payloads inside the reference itself, in base64."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator

from appfl_gc.payload import checksum
from appfl_gc.payload.codec import CODEC, Encoding
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

DEFAULT_LIMIT = 5_000_000


class InlineStore:
    """Keeps payloads of up to ``limit`` raw bytes (a third more in base64) in the reference."""

    scheme = "inline"

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit

    def put(self, encoding: Encoding) -> Ref:
        """See ``Store.put``."""
        if encoding.size > self.limit:
            raise TransferError(
                f"The payload has {encoding.size:,} bytes; those inside a message may have {self.limit:,}.",
                "Configure a store that server and sites share for larger models.",
            )
        buffer = memoryview(bytearray(encoding.size))
        encoding.write_into(buffer)
        locator = base64.b64encode(buffer).decode("ascii")
        return Ref(self.scheme, locator, encoding.size, checksum.of(buffer), CODEC)

    @contextlib.contextmanager
    def open(self, ref: Ref) -> Iterator[memoryview]:
        """See ``Store.open``; also refused is what is larger than ``limit``, before it takes memory."""
        if ref.size > self.limit:
            raise TransferError(
                f"An inline payload of {ref.size:,} bytes arrived; those inside a message may have {self.limit:,}."
            )
        if len(ref.locator) != 4 * ((ref.size + 2) // 3):
            raise TransferError(f"An inline payload of {ref.size:,} bytes has text of another length.")
        try:
            buffer = memoryview(bytearray(base64.b64decode(ref.locator.encode("ascii"), validate=True)))
        except (binascii.Error, UnicodeEncodeError):
            raise TransferError("An inline payload is not base64.") from None
        if len(buffer) != ref.size:
            raise TransferError(f"An inline payload has {len(buffer):,} bytes instead of {ref.size:,}.")
        checksum.check(buffer, ref.checksum, "An inline payload")
        yield buffer

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``; always None."""
        return None

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``: the payload goes with its reference."""

    def grant(self) -> dict[str, Json]:
        """See ``Store.grant``."""
        return {"scheme": self.scheme, "limit": self.limit}
