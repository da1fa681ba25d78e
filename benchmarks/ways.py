"""The ways that ``stores.py`` compares: a store of ours and, over the same service, the raw client.

Services are the real ones that the tests start: SeaweedFS, Redis, ProxyStore's relay and endpoints.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.file_store import FileStore
from appfl_gc.payload.files import map_shared, nameless_file
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.receive import bytes_of
from appfl_gc.payload.store import Store
from appfl_gc.payload.stores import from_grant
from appfl_gc.protocol.reference import Ref

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the services in tests/

PIECE = 1 << 20


class Raw(Protocol):
    """A client by itself; what it fetches is neither verified nor decoded."""

    def put(self, data: bytes) -> Any:
        """Store ``data``; the name of it."""

    def get(self, name: Any, size: int) -> object:
        """Fetch; the bytes in any form."""

    def forget(self, name: Any) -> None:
        """Delete."""


@dataclass
class Way:
    """One store and the raw client beside it.

    Attributes:
        name: as the tables show it.
        beside: the raw client.
        server: the server's side.
        raw: the raw client.
        directory: where arriving payloads are mapped.
        megabytes: sizes for which it is meant; None for all.
    """

    name: str
    beside: str
    server: Store
    raw: Raw
    directory: Path
    megabytes: float | None = None

    def granted(self, size: int) -> Store:
        """What a site makes of the server's grant."""
        return from_grant(self.server.grant([], size))

    def fetch(self, ref: Ref) -> memoryview:
        """What the server does with a reply: fetched, its checksum verified, mapped."""
        return bytes_of(self.server, ref, self.directory)


@dataclass
class Base64:
    """What a message would carry."""

    def put(self, data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    def get(self, name: str, size: int) -> bytes:
        return base64.b64decode(name)

    def forget(self, name: str) -> None:
        """It goes with its text."""


@dataclass
class PlainFile:
    """A file written and read."""

    directory: Path

    def put(self, data: bytes) -> Path:
        path = self.directory / "raw"
        path.write_bytes(data)
        return path

    def get(self, name: Path, size: int) -> object:
        return name.read_bytes()

    def forget(self, name: Path) -> None:
        name.unlink()


class Presigned:
    """``requests`` on URLs that boto3 signed: one request each, the body read into a mapped file."""

    def __init__(self, client: Any, bucket: str, directory: Path) -> None:
        import requests

        self._client, self._bucket, self._directory = client, bucket, directory
        self._session = requests.Session()

    def _url(self, method: str) -> str:
        where = {"Bucket": self._bucket, "Key": "raw"}
        return str(self._client.generate_presigned_url(method, Params=where))

    def put(self, data: bytes) -> str:
        self._session.put(self._url("put_object"), data=data).raise_for_status()
        return "raw"

    def get(self, name: str, size: int) -> object:
        with (
            nameless_file(size, self._directory) as file,
            self._session.get(self._url("get_object"), stream=True) as answer,
        ):
            answer.raise_for_status()
            buffer = map_shared(file.fileno(), size)
            done = 0
            # It reads through a copy of as much as it is asked for: in pieces, which stay in the cache.
            while count := answer.raw.readinto(buffer[done : done + PIECE]):
                done += count
        if done != size:
            raise RuntimeError(f"{done} bytes instead of {size}")
        return buffer

    def forget(self, name: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=name)


@dataclass
class Connector:
    """A connector of ProxyStore by itself: one to put and one to get with, where they differ."""

    there: Any
    here: Any

    def put(self, data: bytes) -> Any:
        return self.there.put(data)

    def get(self, name: Any, size: int) -> object:
        data = self.here.get(name)
        if data is None or len(data) != size:
            raise RuntimeError("The connector lost an object.")
        return data

    def forget(self, name: Any) -> None:
        self.there.evict(name)


@contextlib.contextmanager
def inline(directory: Path) -> Iterator[Way]:
    """Inside a message; models up to its limit."""
    store = InlineStore()
    yield Way("inline", "base64", store, Base64(), directory, store.limit / 1e6)


@contextlib.contextmanager
def file(directory: Path) -> Iterator[Way]:
    """A directory that both sides see."""
    yield Way("file", "write, read", FileStore(directory / "payloads"), PlainFile(directory), directory)


@contextlib.contextmanager
def s3(directory: Path) -> Iterator[Way]:
    """SeaweedFS on loopback."""
    from appfl_gc.payload.s3.server_store import S3Store
    from appfl_gc.payload.s3.settings import S3Settings
    from tests.s3_server import S3Server

    service = S3Server.start(directory / "service")
    try:
        bucket = service.bucket("models")
        settings = S3Settings(bucket, service.url, credentials_file=service.credentials)
        store = S3Store(settings, "benchmark", threading.Event())
        yield Way("s3", "requests", store, Presigned(service.client(), bucket, directory), directory)
        store.close()
    finally:
        service.stop()


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[Way]:
    """Redis on loopback. Its own limit of an object (512 MB) is raised for the raw client's sake."""
    from proxystore.connectors.redis import RedisConnector

    from tests.redis_server import RedisServer

    service = RedisServer.start(directory / "service", proto_max_bulk_len="8gb")
    try:
        store = _proxystore("RedisConnector", service.configs)
        connector = RedisConnector(**service.configs)  # type: ignore[arg-type]
        yield Way("redis", "RedisConnector", store, Connector(connector, connector), directory)
        store.close()
    finally:
        service.kill()


@contextlib.contextmanager
def directory_of_proxystore(directory: Path) -> Iterator[Way]:
    """ProxyStore's files."""
    from proxystore.connectors.file import FileConnector

    store = _proxystore("FileConnector", {"store_dir": str(directory / "ours")})
    connector = FileConnector(str(directory / "theirs"))
    yield Way("proxystore file", "FileConnector", store, Connector(connector, connector), directory)
    store.close()


@contextlib.contextmanager
def endpoint(directory: Path) -> Iterator[Way]:
    """ProxyStore's endpoints: a site puts at its own, the server fetches by its own from that one."""
    from proxystore.connectors.endpoint import EndpointConnector

    from tests.proxystore_bed import Bed

    bed = Bed(directory, largest=8_000_000_000).start()
    try:
        with bed.inside():
            sites = {"endpoints": bed.endpoints, "proxystore_dir": str(bed.b.home)}
            servers = {"endpoints": bed.endpoints, "proxystore_dir": str(bed.a.home)}
            store = _proxystore("EndpointConnector", servers, sites)
            raw = Connector(EndpointConnector(**sites), EndpointConnector(**servers))  # type: ignore[arg-type]
            yield Way("endpoint", "EndpointConnector", store, raw, directory)
            store.close()
    finally:
        bed.close()


def _proxystore(connector: str, here: dict[str, Any], there: dict[str, Any] | None = None) -> Store:
    from appfl_gc.payload.proxystore.making import make_store

    return make_store(connector, here, threading.Event(), site_configs=there)


WAYS = {
    "inline": inline,
    "file": file,
    "s3": s3,
    "redis": redis,
    "proxystore-file": directory_of_proxystore,
    "endpoint": endpoint,
}


def why_not(name: str) -> str:
    """Why a way can't be measured on this machine, or ""."""
    from tests import proxystore_bed, redis_server

    return {"redis": redis_server.why_not, "endpoint": proxystore_bed.why_not}.get(name, str)()


def put(way: Way, payload: Encoded) -> Ref:
    """A site's put, with a new grant."""
    return way.granted(payload.size).put(payload)
