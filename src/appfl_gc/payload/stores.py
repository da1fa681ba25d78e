"""The stores of a run behind one face: small payloads inline, larger ones in the configured store."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from appfl_gc.payload.codec import Encoding
from appfl_gc.payload.file_store import LOCATOR, FileStore
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.store import Store
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json, WireError, as_int, as_key, as_object

__all__ = ["FileStore", "InlineStore", "Store", "Stores", "from_grant", "granted"]


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

    def put(self, encoding: Encoding) -> Ref:
        """See ``Store.put``."""
        if self.large is None or encoding.size <= self.inline.limit:
            return self.inline.put(encoding)
        return self.large.put(encoding)

    def open(self, ref: Ref) -> AbstractContextManager[memoryview]:
        """See ``Store.open``."""
        return self._of(ref).open(ref)

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``."""
        return self._of(ref).descriptor(ref)

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``."""
        self._of(ref).evict(ref)

    def grant(self) -> dict[str, Json]:
        """See ``Store.grant``."""
        large = None if self.large is None else self.large.grant()
        return {"scheme": self.scheme, "inline": self.inline.grant(), "large": large}

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
    """
    scheme = as_key(grant.get("scheme"), "The grant's scheme", 50)
    if scheme == InlineStore.scheme:
        return _inline(grant)
    if scheme == FileStore.scheme:
        directory = as_key(grant.get("directory"), "The grant's directory", 4000)
        if not directory.startswith("/"):
            raise WireError("The grant's directory is not an absolute path.")
        locator = as_key(grant.get("locator"), "The grant's locator", 100)
        if not LOCATOR.fullmatch(locator):
            raise WireError("The grant's locator is not a name that this store gives.")
        return FileStore(directory, create=False, locator=locator, fsync=grant.get("fsync") is True)
    if scheme == Stores.scheme:
        large = grant.get("large")
        inline = _inline(as_object(grant.get("inline"), "The grant's inline store"))
        return Stores(inline, None if large is None else from_grant(as_object(large, "The grant's store")))
    raise WireError(f"The grant is for a store of kind {scheme!r}, which this version does not know.")


def granted(grant: Mapping[str, Json], ref: Ref) -> bool:
    """Whether ``ref`` is where a site with ``grant`` was to put its reply.

    A site knows other references too, such as the global model's; it must not make the server evict those.
    """
    if ref.scheme == InlineStore.scheme:
        return True
    large = grant.get("large") if grant.get("scheme") == Stores.scheme else grant
    return isinstance(large, dict) and (large.get("scheme"), large.get("locator")) == (
        ref.scheme,
        ref.locator,
    )


def _inline(grant: Mapping[str, Json]) -> InlineStore:
    return InlineStore(as_int(grant.get("limit"), "The grant's limit"))
