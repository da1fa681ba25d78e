"""The routes of a run, from its configuration: each client's store, compression and encryption."""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from appfl_gc.config import ClientConfig, Federation
from appfl_gc.config.compressors import settings_from_configs
from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.comm_configs import CommConfigs, ProxystoreConfigs, S3Configs
from appfl_gc.control.plane import Capabilities
from appfl_gc.payload.codec import Layout
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.compression.installed import check_installed
from appfl_gc.payload.retry import Patience
from appfl_gc.payload.stores import FileStore, InlineStore, Store, Stores
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.routes import Route, Routes
from appfl_gc.runner.run_directory import RunDirectory

if TYPE_CHECKING:
    from appfl_gc.payload.s3.server_store import S3Store

BEFORE_A_RUN = Patience(tries=3)
"""With a store that does not answer: nothing is lost yet by ending."""
FILES_ARE_FASTER_FROM = 16 * 1024
"""Bytes of a payload from which on files take less time than messages; measured between 4 kB and 16 kB."""


def make_routes(
    federation: Federation,
    capabilities: Mapping[str, Capabilities],
    directory: RunDirectory,
    model_bytes: int,
    update: Layout,
    recorder: Recorder,
    stop: threading.Event,
) -> Routes:
    """The route of every client. Every store is made, and reached, once.

    Args:
        federation: the configuration.
        capabilities: of each client's control plane.
        directory: of the run.
        model_bytes: of the encoded global model.
        update: what an update is.
        recorder: hears warnings.
        stop: once set, transfers end.

    Raises:
        UsageError: if a client's models don't fit into a message and it has no store; or a store can't be used so.
        TransferError: if a store can't be reached.
        VersionError: if a package is missing.
    """
    workshop = _Workshop(federation, directory, stop, recorder)
    route_of, update_of = {}, {}
    try:
        for client in federation.clients:
            route_of[client.client_id] = workshop.route(client, capabilities[client.client_id], model_bytes)
            update_of[client.client_id] = workshop.update_coding(client)
    except BaseException:
        workshop.close()
        raise
    if workshop.buckets:
        directory.write_json("stores.json", {"s3": [store.where for store in workshop.buckets]})
    return Routes(route_of, update_of, update)


@dataclass
class _Workshop:
    """Makes each store and each route once."""

    federation: Federation
    directory: RunDirectory
    stop: threading.Event
    recorder: Recorder
    buckets: list[S3Store] = field(default_factory=list)
    _stores: dict[Hashable, Store] = field(default_factory=dict)
    _routes: dict[Hashable, Route] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def route(self, client: ClientConfig, capabilities: Capabilities, model_bytes: int) -> Route:
        """The route of ``client``; the same one for clients that share everything."""
        comm = client.comm_configs
        limit = min(
            self.federation.server_configs.control_configs.inline_limit_bytes, capabilities.inline_limit
        )
        name, key, make = self._store(comm)
        if not name and capabilities.shared_file_system:
            name, key, make = "file", "file", lambda: FileStore(self.directory.payloads)
            limit = min(limit, FILES_ARE_FASTER_FROM)
        if not name and model_bytes > limit:
            raise _no_store(client.client_id, capabilities.name, model_bytes, limit)
        compression = self._compression(client) if comm.compressor_configs.compress_global_model else None
        encrypted = comm.encryption_configs.enable_encryption
        which = (name, key, limit, compression, encrypted)
        if which not in self._routes:
            large = None
            if make is not None:
                if (name, key) not in self._stores:
                    self._stores[name, key] = make()
                large = self._stores[name, key]
            model = Coding(compression, self._derived("model") if encrypted else None)
            self._routes[which] = Route(Stores(InlineStore(limit), large), model, name)
        return self._routes[which]

    def update_coding(self, client: ClientConfig) -> Coding:
        """How the client's update is encoded; each client has a key of its own."""
        encrypted = client.comm_configs.encryption_configs.enable_encryption
        key = self._derived(f"update of {client.client_id}") if encrypted else None
        return Coding(self._compression(client), key)

    def close(self) -> None:
        """Drop the connections of every store."""
        for store in self._stores.values():
            store.close()

    def _compression(self, client: ClientConfig) -> CompressionSettings | None:
        # Its warnings were told with those of the configuration.
        settings, _ = settings_from_configs(client.comm_configs.compressor_configs.plain())
        if settings is not None:
            check_installed(settings)
        return settings

    def _store(self, comm: CommConfigs) -> tuple[str, Hashable, Callable[[], Store] | None]:
        """The name of the store that a client is configured to use, what tells it from others, and how to make it."""
        if comm.s3_configs.enable_s3:
            s3 = comm.s3_configs
            return "s3", json.dumps(s3.plain(), sort_keys=True), lambda: self._bucket(s3)
        if comm.proxystore_configs.enable_proxystore:
            own = self.federation.server_configs.comm_configs.proxystore_configs
            far = comm.proxystore_configs
            near = own if own.enable_proxystore else far
            key = json.dumps([near.plain(), far.plain()], sort_keys=True)
            return "proxystore", key, lambda: _proxystore(near, far, self.stop)
        return "", "", None

    def _bucket(self, configs: S3Configs) -> Store:
        from appfl_gc.payload.s3.check import check
        from appfl_gc.payload.s3.server_store import S3Store
        from appfl_gc.payload.s3.settings import S3Settings

        file = configs.s3_creds_file
        settings = S3Settings(
            str(configs.s3_bucket), configs.endpoint_url, None, None if file is None else Path(file)
        )
        run = self.directory.path.name
        for warning in check(S3Store(settings, run, self.stop, patience=BEFORE_A_RUN)):
            self._warn(warning)
        store = S3Store(settings, run, self.stop)
        valid = store.seconds_valid()
        if valid < configs.expected_queue_wait_seconds:
            self._warn(
                f"What sites are granted in the bucket {configs.s3_bucket} is valid for {valid / 3600:.1f} hours, less "
                f"than the {configs.expected_queue_wait_seconds / 3600:.1f} hours that a task may wait in a queue "
                "(s3_configs.expected_queue_wait_seconds): temporary credentials end too soon. A site that is too "
                "late keeps its update and is granted another place."
            )
        self.buckets.append(store)
        return store

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._key, purpose.encode(), "sha256")

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.recorder.log(text, logging.WARNING)


def _proxystore(near: ProxystoreConfigs, far: ProxystoreConfigs, stop: threading.Event) -> Store:
    from appfl_gc.payload.proxystore.making import make_store

    if near.connector_type != far.connector_type:
        raise UsageError(
            f"The server has proxystore_configs.connector_type {near.connector_type}, a client {far.connector_type}.",
            "Both sides of a connection need the same connector; each may have its own connector_configs.",
        )
    store = make_store(
        str(near.connector_type), thaw(near.connector_configs), stop, site_configs=thaw(far.connector_configs)
    )
    store.check()
    return store


def _no_store(client: str, plane: str, size: int, limit: int) -> UsageError:
    return UsageError(
        f"The model has {size:,} bytes; inside a message of {plane} it may have {limit:,}, and client {client} has "
        "no store for larger ones. Nothing was sent.",
        "Configure comm_configs.s3_configs or comm_configs.proxystore_configs for it (docs: Moving models), or "
        "rehearse with --local, where models travel by files. control_configs.inline_limit_bytes and "
        "request_limit_bytes set the limit.",
    )
