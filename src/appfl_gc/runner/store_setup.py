"""The store that a client is configured to use for what does not fit into a message."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.comm_configs import CommConfigs, ProxystoreConfigs, S3Configs
from appfl_gc.payload.s3.settings import LONGEST_LIFE, S3Settings
from appfl_gc.payload.store import Store
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json

_WITHOUT_EFFECT = {"clear", "buffering"}


@dataclass(frozen=True)
class Opened:
    """A store that was reached.

    Attributes:
        store: the server's side.
        warnings: sentences about what could be better.
        where: what ``runs clean`` needs to find the run's payloads; without secrets. None where it finds none.
    """

    store: Store
    warnings: tuple[str, ...] = ()
    where: dict[str, Json] | None = None


@dataclass(frozen=True)
class BucketChoice:
    """An S3 bucket."""

    configs: S3Configs
    name = "s3"

    @property
    def key(self) -> str:
        """The same for the same store."""
        return json.dumps(self.configs.plain(), sort_keys=True)

    @property
    def described(self) -> str:
        """What it is, for people."""
        return f"the S3 bucket {self.configs.s3_bucket}"

    def open(self, run: str, stop: threading.Event) -> Opened:
        """Reach it: a small payload goes there and back.

        Args:
            run: id of the run whose payloads lie there.
            stop: ends transfers once it is set.

        Raises:
            UsageError, TransferError, VersionError: if it can't be used.
        """
        from appfl_gc.payload.s3.check import DEADLINES, PATIENCE, check
        from appfl_gc.payload.s3.server_store import S3Store

        settings, expected = self._settings(), self.configs.expected_queue_wait_seconds
        tried = S3Store(settings, run, stop, patience=PATIENCE, deadlines=DEADLINES)
        try:
            warnings = check(tried, stop)
        finally:
            tried.close()
        store = S3Store(settings, run, stop)
        valid = store.seconds_valid()
        if valid < expected:
            most = valid >= LONGEST_LIFE - 60
            why = "S3 grants nothing for longer" if most else "temporary credentials end too soon"
            warnings.append(
                f"What sites are granted in the bucket {settings.bucket} is valid for {valid / 3600:.1f} hours, less "
                f"than the {expected / 3600:.1f} hours that a task may wait in a queue "
                f"(s3_configs.expected_queue_wait_seconds): {why}. A site that comes too late keeps its update and "
                "is granted another place."
            )
        return Opened(store, tuple(warnings), store.where)

    def _settings(self) -> S3Settings:
        file = self.configs.s3_creds_file
        return S3Settings(
            str(self.configs.s3_bucket),
            self.configs.endpoint_url,
            None,
            None if file is None else Path(file),
        )


@dataclass(frozen=True)
class ConnectorChoice:
    """A connector of ProxyStore, with its settings at the server (``near``) and at sites (``far``)."""

    near: ProxystoreConfigs
    far: ProxystoreConfigs
    name = "proxystore"

    @property
    def key(self) -> str:
        """The same for the same store."""
        return json.dumps([self.near.plain(), self.far.plain()], sort_keys=True)

    @property
    def described(self) -> str:
        """What it is, for people."""
        return f"ProxyStore's {self.near.connector_type}"

    def open(self, run: str, stop: threading.Event) -> Opened:
        """See ``BucketChoice.open``."""
        from appfl_gc.config.connectors import arguments
        from appfl_gc.payload.proxystore.making import make_store

        if self.near.connector_type != self.far.connector_type:
            raise UsageError(
                f"The server has proxystore_configs.connector_type {self.near.connector_type}, a client "
                f"{self.far.connector_type}.",
                "Both sides of a connection need the same connector; each may have its own connector_configs.",
            )
        near, far = thaw(self.near.connector_configs), thaw(self.far.connector_configs)
        kind = str(self.near.connector_type)
        store = make_store(kind, near, stop, site_configs=far)
        store.check()
        # As they were understood: a relative path is one from this working directory.
        here, there = (
            arguments(kind, configs).model_dump(mode="json", exclude_none=True, exclude=_WITHOUT_EFFECT)
            for configs in (near, far)
        )
        return Opened(store, (), {"connector_type": kind, "connector_configs": here, "site_configs": there})


StoreChoice: TypeAlias = BucketChoice | ConnectorChoice


def chosen_store(comm: CommConfigs, server: CommConfigs) -> StoreChoice | None:
    """The store of a client with ``comm``; None if it has none.

    The server's side of ProxyStore is as ``server`` says, or, where that says nothing, as the client's.
    """
    if comm.s3_configs.enable_s3:
        return BucketChoice(comm.s3_configs)
    if comm.proxystore_configs.enable_proxystore:
        own = server.proxystore_configs
        near = own if own.enable_proxystore else comm.proxystore_configs
        return ConnectorChoice(near, comm.proxystore_configs)
    return None
