"""The routes of a run, from its configuration: each client's store, compression and encryption."""

from __future__ import annotations

import hmac
import json
import logging
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from appfl_gc.config import ClientConfig, Federation
from appfl_gc.config.compressors import settings_from_configs
from appfl_gc.control.plane import Capabilities
from appfl_gc.payload.codec import Layout
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.compression.installed import check_installed
from appfl_gc.payload.files import replacing, write_all
from appfl_gc.payload.sealing import new_key
from appfl_gc.payload.stores import FileStore, InlineStore, Store, Stores
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import AppflGcError, UsageError
from appfl_gc.protocol.wire import Json, as_object, load_json
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.routes import Route, Routes
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.store_setup import StoreChoice, chosen_store

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
            name = client.client_id
            route_of[name] = workshop.route(client, capabilities[name], model_bytes)
            update_of[name] = workshop.update_coding(client)
    except BaseException:
        workshop.close()
        raise
    if workshop.places:
        note_places(directory, workshop.places)
    return Routes(route_of, update_of, update)


def note_places(directory: RunDirectory, places: Mapping[str, list[dict[str, Json]]]) -> None:
    """Say where payloads lie, beside what an earlier process of the run said: ``runs clean`` needs all of it."""
    path, noted = directory.path / "stores.json", dict(places)
    try:
        for name, listed in as_object(load_json(path.read_text("utf-8")), "The list of stores").items():
            if isinstance(listed, list):
                earlier = [place for place in listed if isinstance(place, dict)]
                noted[name] = [*earlier, *(place for place in noted.get(name, ()) if place not in earlier)]
    except (OSError, ValueError):
        # There is none, or it is of no use to anybody.
        pass
    with replacing(path) as fd:
        write_all(fd, memoryview((json.dumps(noted, indent=2) + "\n").encode()))


@dataclass
class _Workshop:
    """Makes each store and each route once."""

    federation: Federation
    directory: RunDirectory
    stop: threading.Event
    recorder: Recorder
    places: dict[str, list[dict[str, Json]]] = field(default_factory=dict)
    _stores: dict[str, Store] = field(default_factory=dict)
    _routes: dict[Hashable, Route] = field(default_factory=dict)
    _key: bytes = field(default_factory=new_key, repr=False)

    def route(self, client: ClientConfig, capabilities: Capabilities, model_bytes: int) -> Route:
        """The route of ``client``; the same one for clients that share everything."""
        comm, server = client.comm_configs, self.federation.server_configs
        choice = chosen_store(comm, server.comm_configs)
        limit = min(server.control_configs.inline_limit_bytes, capabilities.inline_limit)
        by_files = choice is None and capabilities.shared_file_system
        if by_files:
            limit = min(limit, FILES_ARE_FASTER_FROM)
        elif choice is None and model_bytes > limit:
            raise _no_store(client.client_id, capabilities.name, model_bytes, limit)
        compression = self._compression(client) if comm.compressor_configs.compress_global_model else None
        encrypted = comm.encryption_configs.enable_encryption
        which = (None if choice is None else choice.key, by_files, limit, compression, encrypted)
        if which not in self._routes:
            large = (
                self._files()
                if by_files
                else None
                if choice is None
                else self._opened(choice, client.client_id)
            )
            model = Coding(compression, self._derived("model") if encrypted else None)
            self._routes[which] = Route(Stores(InlineStore(limit), large), model)
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

    def _files(self) -> Store:
        return self._stores.setdefault("", FileStore(self.directory.payloads))

    def _opened(self, choice: StoreChoice, client: str) -> Store:
        if choice.key not in self._stores:
            self.recorder.log(f"Reaching {choice.described} ...", logging.DEBUG)
            try:
                opened = choice.open(self.directory.path.name, self.stop)
            except AppflGcError as error:
                error.message = f"The store of client {client} can't be used. {error.message}"
                raise
            for warning in opened.warnings:
                self.recorder.log(warning, logging.WARNING)
            if opened.where is not None:
                self.places.setdefault(choice.name, []).append(opened.where)
            self._stores[choice.key] = opened.store
        return self._stores[choice.key]

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._key, purpose.encode(), "sha256")


def _no_store(client: str, plane: str, size: int, limit: int) -> UsageError:
    return UsageError(
        f"The model has {size:,} bytes; inside a message of {plane} it may have {limit:,}, and client {client} has "
        "no store for larger ones. Nothing was sent.",
        "Configure comm_configs.s3_configs or comm_configs.proxystore_configs for it (docs: Moving models), or "
        "rehearse with --local, where models travel by files. control_configs.inline_limit_bytes and "
        "request_limit_bytes set the limit.",
    )
