"""The configuration of a simulation: of two YAML files, of a past run, or made up for its profiles."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from appfl_gc.config.diagnostic import ConfigError, Diagnostic
from appfl_gc.config.document import read_document
from appfl_gc.config.federation import LOCAL, PATH_KEYS, Federation
from appfl_gc.config.load import examine
from appfl_gc.protocol.errors import UsageError

CONFIG = "config.json"
SITES_OWN = "site:simulated"
"""Stands for a user's file in a configuration of which nothing is trained."""

SERVER_KEYS = (
    "scheduler", "scheduler_path", "scheduler_kwargs", "aggregator", "aggregator_kwargs", "num_global_epochs",
)  # fmt: skip
"""What a simulation takes from the server's side of a past run."""

CLIENT_KEYS = ("train_configs", "model_configs", "data_configs")

MADE_UP_SERVER: Mapping[str, Any] = MappingProxyType(
    {"scheduler": "SyncScheduler", "aggregator": "FedAvgAggregator", "num_global_epochs": 10}
)
MADE_UP_CLIENT: Mapping[str, Any] = MappingProxyType(
    {
        "train_configs": {
            "trainer": "VanillaTrainer",
            "mode": "step",
            "num_local_steps": 100,
            "optim": "SGD",
            "loss_fn": "CrossEntropyLoss",
            "send_gradient": True,
        },
        "model_configs": {"model_path": SITES_OWN},
        "data_configs": {"dataset_path": SITES_OWN},
    }
)


def load_configuration(
    server_config: Path | None,
    client_config: Path | None,
    run: Path | None,
    clients: Sequence[str],
    overrides: Sequence[str],
) -> Federation:
    """The configuration to simulate.

    What no file says is taken from the run, and what that does not say is made up: rounds with a barrier, and 100
    local steps for each of ``clients``.

    Args:
        server_config: the server's YAML file, or None.
        client_config: the clients' YAML file, or None for ``clients``. Without a server's file it says how many
            there are.
        run: a run directory, or None.
        clients: names of the clients where there is no file of them.
        overrides: ``KEY=VALUE`` texts that win over all.

    Raises:
        ConfigError: if the configuration has errors.
        UsageError: if the run directory has no readable configuration.
    """
    past = {} if run is None else _past(run)
    with tempfile.TemporaryDirectory(prefix="appfl-gc-simulate-") as folder:
        made: dict[str, str] = {}
        origin = str(run / CONFIG) if run else "the made-up configuration"

        def write(name: str, content: Mapping[str, Any]) -> Path:
            path = Path(folder) / name
            path.write_text(json.dumps(content), encoding="utf-8")
            made[str(path)] = origin
            return path

        if server_config is None:
            count = len(clients) if client_config is None else _listed(client_config)
            server_config = write("server.yaml", _server(past, count, overrides))
        elif client_config is None:
            overrides = [f"server_configs.num_clients={len(clients)}", *overrides]
        if client_config is None:
            own = not made
            client_config = write("clients.yaml", {"clients": _clients(past, clients, own)})
        found = examine(server_config, client_config, overrides=overrides)
        diagnostics = tuple(_renamed(diagnostic, made) for diagnostic in found.diagnostics)
    if found.federation is None:
        raise ConfigError(diagnostics)
    return replace(found.federation, warnings=diagnostics)


def _listed(client_config: Path) -> int:
    """How many clients the file lists; 1 if it lists none, which is told when it is examined."""
    listed = read_document(client_config).get(("clients",))
    return max(1, len(listed)) if isinstance(listed, list) else 1


def _past(run: Path) -> dict[str, Any]:
    path = run / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"The configuration of the run {run} is not readable: {error}.",
            "Give --server_config and --client_config.",
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("server_configs"), dict):
        raise UsageError(f"{path} is no configuration of a run.", "Give --server_config and --client_config.")
    return content


def _server(past: Mapping[str, Any], clients: int, overrides: Sequence[str]) -> dict[str, Any]:
    """The server's file: of the run, else made up; without the settings of what is replaced by another class."""
    known = past.get("server_configs") or MADE_UP_SERVER
    server = {key: known[key] for key in SERVER_KEYS if key in known}
    for what in ("scheduler", "aggregator"):
        if any(text.startswith(f"server_configs.{what}=") for text in overrides):
            server.pop(f"{what}_kwargs", None)
            server.pop(f"{what}_path", None)
    entries = past.get("clients") or [MADE_UP_CLIENT]
    return {
        "server_configs": {**server, "num_clients": clients},
        "client_configs": _without_files(entries[0]),
    }


def _clients(past: Mapping[str, Any], names: Sequence[str], own_server: bool) -> list[dict[str, Any]]:
    """The clients' file; with the server's ``own_server`` file an entry says only what that leaves open."""
    entries = past.get("clients") or [MADE_UP_CLIENT]
    known = {str(entry.get("client_id")): entry for entry in entries}
    shared = _without_files(entries[0])
    listed = []
    for name in names:
        if own_server:
            mine: dict[str, Any] = {"data_configs": {"dataset_path": SITES_OWN}}
        else:
            mine = _differences(_without_files(known.get(name, entries[0])), shared)
        listed.append({"client_id": name, "endpoint_id": LOCAL, **mine})
    return listed


def _differences(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """What ``entry`` has otherwise than ``shared``, so that a change of what is shared reaches all clients."""
    return {
        block: {key: value for key, value in keys.items() if shared.get(block, {}).get(key) != value}
        for block, keys in entry.items()
        if keys != shared.get(block)
    }


def _without_files(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The blocks of a client that matter, with files that only sites have in place of the user's."""
    return {
        block: {
            key: SITES_OWN if key in PATH_KEYS and value else value for key, value in entry[block].items()
        }
        for block in CLIENT_KEYS
        if isinstance(entry.get(block), Mapping)
    }


def _renamed(diagnostic: Diagnostic, made: Mapping[str, str]) -> Diagnostic:
    """``diagnostic`` with the name that a file which was made for the purpose has for the user."""
    if diagnostic.file not in made:
        return diagnostic
    return replace(diagnostic, file=made[diagnostic.file], line=None)
