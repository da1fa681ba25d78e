"""A site's side of the S3 store: URLs that the server signed. Needs neither credentials nor boto3."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.download import download
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.payload.s3.upload import MOST_PARTS, upload
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json, WireError, as_count, as_key, as_object

LOCATOR = re.compile(r"[0-9a-f]{32}")
_LONGEST_URL = 8000
_MOST_READ = 1000


class GrantedS3:
    """Fetches what the server named and puts one payload. See ``Store``.

    Args:
        locator: of the payload that may be put.
        part_bytes: size of its parts but the last.
        parts: signed URLs, one per part.
        read: signed URLs by locator.
        stop: ends transfers within a second; None: nothing does.
        patience: with each request; None for the default.
        deadlines: of each request; None for the default.
    """

    scheme = "s3"
    remote = True

    def __init__(
        self,
        locator: str,
        part_bytes: int,
        parts: Sequence[str],
        read: Mapping[str, str],
        stop: threading.Event | None = None,
        *,
        patience: Patience | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._locator = locator
        self._part_bytes = part_bytes
        self._parts = tuple(parts)
        self._read = dict(read)
        self._stop = stop or threading.Event()
        self._patience = patience
        self._deadlines = deadlines

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """See ``Store.put``; ``GrantEndedError`` if the URLs are valid no longer. May be called again."""
        largest = self._part_bytes * len(self._parts)
        if payload.size > largest:
            raise TransferError(
                f"The payload has {payload.size:,} bytes; the server granted room for {largest:,}."
            )
        checksum, _ = upload(
            payload,
            self._part_bytes,
            self._parts.__getitem__,
            sent,
            self._stop,
            patience=self._patience,
            deadlines=self._deadlines,
        )
        return Ref(self.scheme, self._locator, payload.size, checksum, payload.codec)

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """See ``Store.fetch``; ``GrantEndedError`` if the URL is valid no longer."""
        url = self._read.get(ref.locator) if ref.scheme == self.scheme else None
        if url is None:
            raise TransferError("The server granted no access to a payload that its call needs.")
        download(url, ref.size, file, arrived, self._stop, patience=self._patience, deadlines=self._deadlines)

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``; always None."""
        return None

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``: only the server may."""
        raise TransferError("A site can't remove payloads from the S3 store; the server does.")

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """See ``Store.grant``: only the server may."""
        raise TransferError("A site can't grant access to the S3 store; the server does.")

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """See ``Store.withdraw``: only the server may."""
        raise TransferError("A site can't withdraw a grant of the S3 store; the server does.")

    def mailbox(self, public: Mapping[str, Json] | None = None) -> None:
        """See ``Store.mailbox``; there are none."""

    def sweep(self) -> None:
        """See ``Store.sweep``: the server's to do."""

    def close(self) -> None:
        """See ``Store.close``; connections end with each transfer."""


def from_grant(
    grant: Mapping[str, Json],
    stop: threading.Event | None = None,
    *,
    patience: Patience | None = None,
    deadlines: Deadlines | None = None,
) -> GrantedS3:
    """The store that ``S3Store.grant`` granted.

    Raises:
        WireError: if the grant is malformed.
    """
    locator = as_key(grant.get("locator"), "The grant's locator", 100)
    if not LOCATOR.fullmatch(locator):
        raise WireError("The grant's locator is not a name that this store gives.")
    part_bytes = as_count(grant.get("part_bytes"), "The grant's size of parts")
    parts = grant.get("parts")
    if not isinstance(parts, list) or not 0 < len(parts) <= MOST_PARTS or part_bytes < 1:
        raise WireError("The grant's parts are not a list of URLs, or without a size.")
    read = as_object(grant.get("read"), "The grant's payloads to read")
    if len(read) > _MOST_READ or not all(LOCATOR.fullmatch(name) for name in read):
        raise WireError("The grant's payloads to read are not names that this store gives.")
    return GrantedS3(
        locator,
        part_bytes,
        [signed_url(part) for part in parts],
        {name: signed_url(url) for name, url in read.items()},
        stop,
        patience=patience,
        deadlines=deadlines,
    )


def signed_url(value: Json) -> str:
    """``value`` if it can be the URL of a store, else ``WireError``."""
    if isinstance(value, str) and len(value) <= _LONGEST_URL and value.isascii() and value.isprintable():
        try:
            parts = urlsplit(value)
            if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and " " not in value:
                return value
        except ValueError:
            pass
    raise WireError("The grant holds something that is no URL of a store.")
