"""Parts in ProxyStore's endpoints, as its ``EndpointConnector`` keeps objects: each side puts at its own endpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from appfl_gc.config.connectors import EndpointArguments
from appfl_gc.payload.proxystore.endpoint.client import EndpointClient
from appfl_gc.payload.proxystore.parts import Landing, joined
from appfl_gc.payload.retry import Patience

DROP_SECONDS = 15.0


class EndpointParts:
    """See ``Parts``. A part, about a second of an endpoint's, is held in memory as a whole.

    Args:
        arguments: of the connector.
        peers: UUIDs of the other side's endpoints, beside those of ``arguments``; nothing is fetched from others.
        stop: ends transfers once it is set.

    Raises:
        UsageError: if none of the endpoints is configured on this machine.
        TransferError: if the one that is does not run.
        VersionError: if ProxyStore is not installed.
    """

    streams = False

    def __init__(self, arguments: EndpointArguments, peers: Sequence[str], stop: threading.Event) -> None:
        self.places: Sequence[str] = tuple(dict.fromkeys([*map(str, arguments.endpoints), *peers]))
        self._client = EndpointClient(self.places, arguments.proxystore_dir, stop)
        # Deleting must also work, and soon end, while the run is stopping.
        self._closed = threading.Event()
        self._dropping = EndpointClient(
            self.places,
            arguments.proxystore_dir,
            self._closed,
            seconds=DROP_SECONDS,
            patience=Patience(tries=1),
        )
        self.part_bytes = min(16 << 20, self._client.largest)

    def put(self, name: str, part: Iterable[memoryview], sent: Callable[[int], None]) -> str:
        """See ``Parts.put``."""
        data = joined(part)
        self._client.put(name, data)
        sent(len(data))
        return self._client.own

    def get(self, name: str, where: str, landing: Landing) -> None:
        """See ``Parts.get``."""
        buffer = memoryview(bytearray(landing.size))
        self._client.get_into(name, where, buffer)
        landing.write(buffer[landing.landed :])

    def open(self, name: str, where: str, size: int) -> int | None:
        """See ``Parts.open``; None."""
        return None

    def holds(self, name: str, where: str) -> bool:
        """See ``Parts.holds``."""
        return self._dropping.exists(name, where)

    def drop(self, name: str, where: str) -> None:
        """See ``Parts.drop``."""
        self._dropping.evict(name, where)

    def tidy(self) -> None:
        """See ``Parts.tidy``; nothing."""

    def close(self) -> None:
        """See ``Parts.close``."""
        self._closed.set()
        self._client.close()
        self._dropping.close()
