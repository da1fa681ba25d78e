"""The server's store of a ProxyStore connector, from a configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from appfl_gc.config.connectors import (
    Arguments,
    EndpointArguments,
    FileArguments,
    GlobusArguments,
    RedisArguments,
    arguments,
)
from appfl_gc.payload.proxystore.parts import Parts
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.wire import Json


def make_store(
    connector_type: str,
    connector_configs: Mapping[str, object],
    stop: threading.Event,
    part_bytes: int | None = None,
    *,
    site_configs: Mapping[str, object] | None = None,
    patience: Patience | None = None,
) -> ProxyStoreStore:
    """The server's store.

    Args:
        connector_type: name of a connector.
        connector_configs: its keyword arguments on the server.
        stop: once set, transfers end within a second.
        part_bytes: of each object; None for what suits the connector.
        site_configs: its keyword arguments at sites; None for the same.
        patience: how often what may pass is tried again.

    Raises:
        UsageError: if a connector does not serve, or its keyword arguments don't fit.
        TransferError: if what it reaches does not run.
        VersionError: if a package is missing.
    """
    here = arguments(connector_type, connector_configs)
    there = here if site_configs is None else arguments(connector_type, site_configs)
    parts = connect(here, _endpoints(there), stop, create=True)
    terms: dict[str, Json] = {
        "connector": connector_type,
        "configs": there.model_dump(mode="json", exclude_none=True, exclude={"clear", "buffering"}),
        "peers": [*_endpoints(here)],
    }
    return ProxyStoreStore(parts, part_bytes or parts.part_bytes, stop, terms=terms, patience=patience)


def connect(given: Arguments, peers: Sequence[str], stop: threading.Event, *, create: bool) -> Parts:
    """The objects of a connector. What it needs is imported with it.

    Args:
        given: its keyword arguments, checked.
        peers: UUIDs of the other side's endpoints, for the ``EndpointConnector``.
        stop: ends transfers once it is set.
        create: whether a directory that is absent is made.
    """
    if isinstance(given, RedisArguments):
        from appfl_gc.payload.proxystore.redis_parts import RedisParts

        return RedisParts(given, stop)
    if isinstance(given, FileArguments):
        from appfl_gc.payload.proxystore.file_parts import FileParts

        return FileParts(given, stop, create=create)
    if isinstance(given, GlobusArguments):
        from appfl_gc.payload.proxystore.globus_parts import GlobusParts

        return GlobusParts(given, stop)
    if isinstance(given, EndpointArguments):
        from appfl_gc.payload.proxystore.endpoint_parts import EndpointParts

        return EndpointParts(given, peers, stop)
    raise TypeError(f"{type(given).__name__} belong to no connector")


def _endpoints(given: Arguments) -> list[str]:
    return [str(one) for one in given.endpoints] if isinstance(given, EndpointArguments) else []
