"""Rewrite an endpoint of the older kind, with its engine in config.yaml, to what today's agent starts."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from appfl_gc.hpc.endpoint.configure import Endpoint, configure, user_directory
from appfl_gc.hpc.endpoint.files import CONFIG, IDENTIFIER, TEMPLATE
from appfl_gc.hpc.endpoint.options import EndpointOptions, check_name
from appfl_gc.hpc.facility import load_facility
from appfl_gc.hpc.knobs import Provider
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json, clean_text

OLD_DIRECTORY = ".globus-compute"

_FACILITIES = MappingProxyType({Provider.PBS: "pbs", Provider.SLURM: "slurm", Provider.LOCAL: "local"})
_PROVIDER_KEYS = MappingProxyType(
    {
        "account": "account",
        "queue": "queue",
        "partition": "queue",
        "nodes_per_block": "nodes_per_block",
        "init_blocks": "init_blocks",
        "min_blocks": "min_blocks",
        "max_blocks": "max_blocks",
        "cpus_per_node": "cpus_per_node",
        "cores_per_node": "cpus_per_node",
        "select_options": "select_options",
        "scheduler_options": "scheduler_options",
    }
)
_CORE_KEYS = ("admins", "authentication_policy", "subscription_id", "public", "debug", "environment")
_USER_KEYS = ("endpoint_setup", "endpoint_teardown", "heartbeat_threshold", "idle_heartbeats_hard")
_GONE = ("detach_endpoint", "multi_user", "force_mu_allow_same_user", "channel", "move_files", "linger")
_PLACEHOLDER = re.compile(r"<[^<>\n]*>")
_ENGINES = ("HighThroughputEngine", "GlobusComputeEngine")


@dataclass(frozen=True)
class Migration:
    """What was rewritten.

    Attributes:
        endpoint: the new files, or None when there was nothing to do.
        changes: what changed and why, a sentence each.
    """

    endpoint: Endpoint | None
    changes: tuple[str, ...]


def migrate(name_or_file: str, user_dir: Path | None = None, directory: Path | None = None) -> Migration:
    """Rewrite an endpoint, found by its name or by the path of its config.yaml.

    A file that is not in a directory of endpoints becomes the endpoint that its directory names. The old
    files are kept in a backup. An endpoint that today's agent starts is left as it is. ``directory`` is where agents,
    workers and the site's state write.

    Raises:
        UsageError: if there is no such endpoint, or the file has an engine or a provider that can't be rewritten.
    """
    config = _find(name_or_file, user_dir)
    old = _read(config)
    if old.get("engine") is None:
        return Migration(None, (f"{config} has no engine, as today's agent wants it: nothing was changed.",))
    options, facility_changes, changes = _Reader(old).read()
    if directory is not None:
        options = dataclasses.replace(options, directory=directory)
    root = (user_dir or user_directory()).expanduser().absolute()
    if config.parent.parent != root:
        options = dataclasses.replace(options, endpoint_id=_identifier(config.with_name(IDENTIFIER)))
        changes.append(f"files: the agent looks in {root}; {config} is left as it was")
    name = check_name(config.parent.name)
    facility = dataclasses.replace(load_facility(options.facility), **facility_changes)
    written = configure(name, options, root, replace=config.parent.parent == root, facility=facility)
    changes.append(f"engine: moved from {CONFIG} to {TEMPLATE}, since the agent takes none in {CONFIG}")
    return Migration(written, tuple(changes))


def _find(name_or_file: str, user_dir: Path | None) -> Path:
    given = Path(name_or_file).expanduser()
    if given.is_file():
        return given.absolute()
    if "/" in name_or_file:
        raise UsageError(f"There is no file {clean_text(name_or_file, 300)}.")
    root = user_dir or user_directory()
    places = [root / name_or_file / CONFIG, Path.home() / OLD_DIRECTORY / name_or_file / CONFIG]
    for place in places:
        if place.is_file():
            return place.absolute()
    raise UsageError(
        f"There is no endpoint {clean_text(name_or_file, 140)}: neither {places[0]} nor {places[1]} is there.",
        "Give the path of its config.yaml.",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} can't be read: {clean_text(str(error), 500)}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path} has no keys at its top, so it is no endpoint's configuration.")
    return value


def _identifier(path: Path) -> str | None:
    """The UUID that an older endpoint was registered with, if it says so."""
    try:
        return str(uuid.UUID(json.loads(path.read_text(encoding="utf-8"))["endpoint_id"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class _Reader:
    """Takes an old configuration apart key by key; whatever is not known is carried over or named."""

    def __init__(self, old: Mapping[str, Any]) -> None:
        self._old = dict(old)
        self._engine = _mapping(self._old.pop("engine"), "engine")
        self._provider = _mapping(self._engine.pop("provider", {"type": "LocalProvider"}), "engine.provider")
        self._settings: dict[str, Json] = {}
        self._prelude = ""
        self._changes: list[str] = []

    def read(self) -> tuple[EndpointOptions, dict[str, Any], list[str]]:
        """The options, what differs from the facility's data, and the changes."""
        kind = self._engine.pop("type", None)
        if kind not in _ENGINES:
            raise UsageError(
                f"The engine {clean_text(str(kind), 80)} can't be rewritten.",
                f"It can be done for {' and '.join(_ENGINES)}.",
            )
        if kind == _ENGINES[0]:
            self._changed("engine.type", "HighThroughputEngine is gone; GlobusComputeEngine takes its place")
        provider = self._read_provider()
        self._read_engine()
        options = self._read_core(_FACILITIES[provider])
        # A value that the old file did not set stays parsl's own default.
        facility: dict[str, Any] = {
            "title": "Rewritten from an older endpoint",
            "defaults": {"max_workers_per_node": 1},
            "extra_provider": self._provider,
            "extra_engine": self._engine,
            "notes": (),
        }
        return options, facility, self._changes

    def _changed(self, where: str, what: str) -> None:
        self._changes.append(f"{where}: {what}")

    def _read_provider(self) -> Provider:
        kind = self._provider.pop("type", "LocalProvider")
        try:
            provider = Provider(kind)
        except ValueError:
            raise UsageError(
                f"The provider {clean_text(str(kind), 80)} can't be rewritten.",
                f"It can be done for {', '.join(entry.value for entry in Provider)}.",
            ) from None
        self._drop(self._provider, "engine.provider")
        for key, setting in _PROVIDER_KEYS.items():
            if key in self._provider:
                self._take(setting, self._provider.pop(key), f"engine.provider.{key}")
        if "walltime" in self._provider:
            self._settings["walltime"] = self._walltime(self._provider.pop("walltime"))
        self._read_worker_init(str(self._provider.pop("worker_init", None) or ""))
        launcher = _mapping(self._provider.pop("launcher", {}) or {}, "engine.provider.launcher")
        if provider.batch:
            self._settings["launcher"] = launcher.get("type", "SingleNodeLauncher")
            if launcher.get("overrides"):
                self._settings["launcher_overrides"] = launcher["overrides"]
        return provider

    def _take(self, setting: str, value: Any, where: str) -> None:
        if value is None or value == "":
            return
        if isinstance(value, str) and _PLACEHOLDER.search(value):
            self._changed(where, f"{value} was never filled in; each client gives `{setting}` now")
            return
        self._settings[setting] = value

    def _walltime(self, value: Any) -> str:
        where = "engine.provider.walltime"
        if isinstance(value, int) and not isinstance(value, bool):
            text = f"{value // 3600:02d}:{value % 3600 // 60:02d}:{value % 60:02d}"
            self._changed(where, f'YAML read it as the number {value}; it is "{text}" now, in quotes')
            return text
        self._changed(where, f'"{value}" is in quotes now: without them YAML reads many times as numbers')
        return str(value)

    def _read_worker_init(self, text: str) -> None:
        where = "engine.provider.worker_init"
        # Taken apart only where something must go: `;` may also be part of a longer statement.
        kept = re.split(r"[;\n]", text) if _PLACEHOLDER.search(text) else text.splitlines()
        for statement in [one for one in kept if _PLACEHOLDER.search(one)]:
            self._changed(where, f"`{statement.strip()}` was never filled in and is left out")
            kept.remove(statement)
        self._prelude = "".join(f"{statement.strip()}\n" for statement in kept if statement.strip())
        self._changed(where, "this Python environment is activated after it, so that workers have appfl_gc")

    def _read_engine(self) -> None:
        self._drop(self._engine, "engine")
        if "max_workers" in self._engine:
            self._engine["max_workers_per_node"] = self._engine.pop("max_workers")
            self._changed("engine.max_workers", "it is called max_workers_per_node now")
        for key, setting in (
            ("max_workers_per_node", "max_workers_per_node"),
            ("available_accelerators", "accelerators"),
        ):
            if self._engine.get(key):
                self._settings[setting] = self._engine.pop(key)
        if "max_workers_per_node" not in self._settings and "accelerators" not in self._settings:
            self._changed("engine.max_workers_per_node", "1 now, where it was one for each core")
        address = self._engine.get("address")
        if isinstance(address, dict) and address.get("type") == "address_by_interface":
            del self._engine["address"]
            self._settings["interface"] = address["ifname"]
        self._read_strategy()

    def _read_strategy(self) -> None:
        strategy = self._engine.pop("strategy", None)
        scaling = _mapping(self._engine.pop("job_status_kwargs", {}) or {}, "engine.job_status_kwargs")
        if isinstance(strategy, dict):
            scaling = {**strategy, **scaling}
            self._changed(
                "engine.strategy",
                f"a block of {strategy.get('type', 'a strategy')} stops the engine; it is job_status_kwargs now",
            )
        if scaling.get("max_idletime"):
            self._settings["max_idletime"] = int(scaling["max_idletime"])

    def _read_core(self, facility: str) -> EndpointOptions:
        old = self._old
        period = int(old.pop("heartbeat_period", None) or 30)
        idle = old.pop("idle_heartbeats_soft", None)
        self._drop(old, CONFIG)
        options = EndpointOptions(
            facility=facility,
            settings=self._settings,
            prelude=self._prelude,
            heartbeat_seconds=max(5, period),
            idle_seconds=3600 if idle is None else int(idle) * period,
            display_name=old.pop("display_name", None) or None,
            contact_email=old.pop("email", None),
            allowed_functions=tuple(str(one) for one in old.pop("allowed_functions", None) or ()),
            amqp_port=old.pop("amqp_port", None),
            extra_core={key: old.pop(key) for key in _CORE_KEYS if key in old},
            extra_user={key: old.pop(key) for key in _USER_KEYS if key in old},
        )
        for key in old:
            self._changed(clean_text(str(key), 80), "today's agent does not know it; it is left out")
        return options

    def _drop(self, values: dict[str, Any], where: str) -> None:
        for key in _GONE:
            if key in values:
                del values[key]
                self._changed(f"{where}.{key}", "today's agent does not know it; it is left out")


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"`{where}` of the old configuration is not a block of keys.")
    return dict(value)
