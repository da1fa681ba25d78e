"""The stores of a run behind one face: small payloads inline, larger ones in the configured store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.file_store import LOCATOR, FileStore
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.payload.store import Store, ignore
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json, WireError, as_int, as_key, as_object

__all__ = ["FileStore", "InlineStore", "Store", "Stores", "from_grant"]


class Stores:
    """A store that picks ``inline`` or ``large`` by the true encoded size, and finds payloads of either.

    Args:
        inline: takes what fits its limit.
        large: takes the rest; None where no store is configured.
    """

    scheme = "stores"

    def __init__(self, inline: InlineStore, large: Store | None = None) -> None:
        self.inline = inline
        self.large = large

    @property
    def remote(self) -> bool:
        """See ``Store.remote``: of the larger payloads."""
        return self.large is not None and self.large.remote

    def choice(self, size: int) -> Store:
        """Where a payload of ``size`` bytes goes."""
        return self.inline if self.large is None or size <= self.inline.limit else self.large

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """See ``Store.put``."""
        return self.choice(payload.size).put(payload, sent)

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """See ``Store.fetch``."""
        self._of(ref).fetch(ref, file, arrived)

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``."""
        return self._of(ref).descriptor(ref)

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``."""
        self._of(ref).evict(ref)

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """See ``Store.grant``. No place is made in the larger store for what is sure to fit a message."""
        large: dict[str, Json] | None = None
        there = [ref for ref in read if ref.scheme != self.inline.scheme]
        if self.large is not None and (there or largest > self.inline.limit):
            large = self.large.grant(there, largest)
        return {"scheme": self.scheme, "inline": self.inline.grant([], largest), "large": large}

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """See ``Store.withdraw``."""
        large = grant.get("large")
        if self.large is not None and isinstance(large, dict):
            self.large.withdraw(large)

    def mailbox(self, public: Mapping[str, Json] | None = None) -> ServerMailbox | None:
        """See ``Store.mailbox``: in the larger store, wherever the call's payloads go."""
        return None if self.large is None else self.large.mailbox(public)

    def sweep(self) -> None:
        """See ``Store.sweep``."""
        if self.large is not None:
            self.large.sweep()

    def close(self) -> None:
        """See ``Store.close``."""
        if self.large is not None:
            self.large.close()

    def _of(self, ref: Ref) -> Store:
        if ref.scheme == self.inline.scheme:
            return self.inline
        if self.large is not None and ref.scheme == self.large.scheme:
            return self.large
        raise TransferError(f"A payload lies in a store of kind {ref.scheme!r}, which this run does not use.")


def from_grant(grant: Mapping[str, Json]) -> Store:
    """The store that a server granted with ``Store.grant()``.

    Raises:
        WireError: if the grant is malformed or of a scheme that this version does not know.
        VersionError: if the store needs a package that is not installed here.
    """
    scheme = as_key(grant.get("scheme"), "The grant's scheme", 50)
    if scheme == InlineStore.scheme:
        return _inline(grant)
    if scheme == FileStore.scheme:
        return _file(grant)
    if scheme == "s3":
        from appfl_gc.payload.s3 import granted as s3

        return s3.from_grant(grant)
    if scheme == "proxystore":
        from appfl_gc.payload.proxystore import granted as proxystore

        return proxystore.from_grant(grant)
    if scheme == Stores.scheme:
        large = grant.get("large")
        inline = _inline(as_object(grant.get("inline"), "The grant's inline store"))
        return Stores(inline, None if large is None else from_grant(as_object(large, "The grant's store")))
    raise WireError(f"The grant is for a store of kind {scheme!r}, which this version does not know.")


def _inline(grant: Mapping[str, Json]) -> InlineStore:
    return InlineStore(as_int(grant.get("limit"), "The grant's limit"))


def _file(grant: Mapping[str, Json]) -> FileStore:
    directory = as_key(grant.get("directory"), "The grant's directory", 4000)
    if not directory.startswith("/"):
        raise WireError("The grant's directory is not an absolute path.")
    locator = as_key(grant.get("locator"), "The grant's locator", 100)
    if not LOCATOR.fullmatch(locator):
        raise WireError("The grant's locator is not a name that this store gives.")
    return FileStore(directory, create=False, locator=locator, fsync=grant.get("fsync") is True)
