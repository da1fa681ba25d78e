"""The loaded configuration: what the rest of the program reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from appfl_gc.config.diagnostic import Diagnostic
from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.client import Client
from appfl_gc.config.schema.comm_configs import CommConfigs
from appfl_gc.config.schema.data_configs import DataConfigs
from appfl_gc.config.schema.model_configs import ModelConfigs
from appfl_gc.config.schema.server_configs import ServerConfigs
from appfl_gc.config.schema.train_configs import TrainConfigs
from appfl_gc.protocol.redaction import redact
from appfl_gc.protocol.source import Source
from appfl_gc.protocol.wire import Json

LOCAL = "local"
"""The ``endpoint_id`` of an engine on this machine."""

PATH_KEYS = frozenset({"model_path", "loss_fn_path", "metric_path", "trainer_path", "dataset_path"})


@dataclass(frozen=True)
class ClientConfig:
    """One participant: ``client_configs`` with its own entry laid over.

    Attributes:
        client_id: unique name; any printable text.
        endpoint_id: ``local`` or the UUID of a Globus Compute endpoint.
        settings: the whole typed entry.
        sources: user files by kind (model, loss, metric, trainer, dataset).
    """

    client_id: str
    endpoint_id: str
    settings: Client
    sources: Mapping[str, Source]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    @property
    def train_configs(self) -> TrainConfigs:
        """How it trains."""
        return self.settings.train_configs

    @property
    def model_configs(self) -> ModelConfigs:
        """What it trains."""
        return self.settings.model_configs

    @property
    def data_configs(self) -> DataConfigs:
        """Its data."""
        return self.settings.data_configs

    @property
    def comm_configs(self) -> CommConfigs:
        """How its models travel."""
        return self.settings.comm_configs

    def site_config(self) -> dict[str, Json]:
        """What travels to the site as plain JSON, with defaults, without paths of the server's machine.

        Keys that are not declared are there only with a user's ``trainer_path``.
        """
        return {
            "client_id": self.client_id,
            "train_configs": _without_paths(self.train_configs.plain()),
            "model_configs": _without_paths(self.model_configs.plain()),
            "data_configs": _without_paths(self.data_configs.plain()),
        }

    def resolved(self) -> dict[str, Json]:
        """The merged entry with defaults as JSON; secrets are redacted."""
        plain: dict[str, Any] = redact(self.settings.plain())
        return {**plain, "client_id": self.client_id, "endpoint_id": self.endpoint_id}


@dataclass(frozen=True)
class Federation:
    """Both files, merged and checked.

    Attributes:
        server_configs: what the server does.
        clients: the participants, in the order of the file.
        sources: user files of the server (``aggregator``, ``scheduler``, ``validation_dataset``).
        warnings: findings that do not stop a run: warnings and notes.
        server_path, client_path: the files as the user named them.
    """

    server_configs: ServerConfigs
    clients: tuple[ClientConfig, ...]
    sources: Mapping[str, Source]
    warnings: tuple[Diagnostic, ...]
    server_path: Path
    client_path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    def scheduler_kwargs(self) -> dict[str, Any]:
        """A copy of ``scheduler_kwargs`` with ``num_clients``, which published schedulers are given besides."""
        return {**thaw(self.server_configs.scheduler_kwargs), "num_clients": self.server_configs.num_clients}

    def aggregator_kwargs(self) -> dict[str, Any]:
        """A copy of ``aggregator_kwargs`` with what published aggregators are given besides.

        That is ``num_clients``, and ``gradient_based``: whether clients send differences (``send_gradient``).
        """
        return {
            **thaw(self.server_configs.aggregator_kwargs),
            "num_clients": self.server_configs.num_clients,
            "gradient_based": any(client.train_configs.send_gradient for client in self.clients),
        }

    def resolved(self) -> dict[str, Json]:
        """Both files as merged, with defaults, as JSON for the run directory. Secrets are redacted.

        Source files are named with their hashes; their text is not in it.
        """
        sources = {
            f"{owner}.{kind}": {"file": source.filename, "name": source.name, "sha256": source.sha256}
            for owner, found in self._owners()
            for kind, source in found.items()
        }
        plain: dict[str, Json] = redact(self.server_configs.plain())
        return {
            "server_configs": plain,
            "clients": [client.resolved() for client in self.clients],
            "sources": thaw(sources),
        }

    def _owners(self) -> list[tuple[str, Mapping[str, Source]]]:
        return [("server", self.sources), *((client.client_id, client.sources) for client in self.clients)]


def _without_paths(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name not in PATH_KEYS}
