"""A site's store of a ProxyStore connector, from what a server granted."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from appfl_gc.config.connectors import arguments
from appfl_gc.payload.proxystore.making import connect
from appfl_gc.payload.proxystore.store import LOCATOR, ProxyStoreStore
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json, WireError, as_count, as_key, as_object

LARGEST_PART = 1 << 40


def from_grant(grant: Mapping[str, Json], stop: threading.Event | None = None) -> ProxyStoreStore:
    """The site's store; ``stop`` ends its transfers.

    Raises:
        WireError: if the grant is malformed.
        UsageError, TransferError, VersionError: as ``making.make_store``, about the site.
    """
    connector = as_key(grant.get("connector"), "The grant's connector", 50)
    configs = as_object(grant.get("configs"), "The grant's keyword arguments")
    try:
        given = arguments(connector, configs)
    except UsageError as error:
        raise WireError(f"The grant's connector does not serve. {error.message}") from None
    locator = as_key(grant.get("locator"), "The grant's locator", 100)
    if not LOCATOR.fullmatch(locator):
        raise WireError("The grant's locator is not a name that this store gives.")
    part_bytes = as_count(grant.get("part_bytes"), "The grant's size of parts")
    if not 0 < part_bytes <= LARGEST_PART:
        raise WireError("The grant's parts have no possible size.")
    largest = as_count(grant.get("largest"), "The grant's largest size")
    peers = grant.get("peers")
    if not isinstance(peers, list):
        raise WireError("The grant's peers are not a list.")
    stop = stop or threading.Event()
    parts = connect(given, [as_key(peer, "A peer's UUID", 36) for peer in peers], stop, create=False)
    return ProxyStoreStore(parts, part_bytes, stop, locator=locator, largest=largest)
