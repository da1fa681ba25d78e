"""Look for what stops an endpoint, or makes it slow or wasteful, before it is started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from appfl_gc.hpc.endpoint import loading
from appfl_gc.hpc.endpoint.configure import user_directory
from appfl_gc.hpc.endpoint.engine_check import engine_findings
from appfl_gc.hpc.endpoint.files import CONFIG, ENVIRONMENT, SCHEMA, TEMPLATE, privileged
from appfl_gc.hpc.endpoint.finding import Finding, error, warning
from appfl_gc.hpc.endpoint.migrate import OLD_DIRECTORY
from appfl_gc.hpc.endpoint.options import check_name
from appfl_gc.hpc.endpoint.worker_environment import PROGRAM, binaries
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.redaction import secret_in
from appfl_gc.protocol.wire import Json

ROUND_GAP_SECONDS = 600.0
"""How long a client may wait for its next task while others train, unless the caller knows better."""

_SAMPLES: Mapping[str, Json] = MappingProxyType({"string": "sample", "integer": 1, "boolean": False})


def check(
    name: str,
    user_dir: Path | None = None,
    *,
    options: Mapping[str, Json] | None = None,
    round_gap_seconds: float = ROUND_GAP_SECONDS,
) -> list[Finding]:
    """All that is wrong with an endpoint, errors first.

    Args:
        name: the endpoint.
        user_dir: where endpoints are; the agent's own choice if None.
        options: the ``user_endpoint_config`` to try; samples for what is required if None.
        round_gap_seconds: how long a client may wait for its next task.

    Raises:
        UsageError: if there is no endpoint of this name anywhere.
    """
    check_name(name)
    root = (user_dir or user_directory()).expanduser().absolute()
    directory, stray = root / name, Path.home() / OLD_DIRECTORY / name
    if not directory.is_dir() and not stray.is_dir():
        raise UsageError(
            f"There is no endpoint {name} in {root}.",
            f"`appfl-gc endpoint list` shows those there are, `appfl-gc endpoint configure {name}` makes one.",
        )
    found = list(_place(name, root, stray))
    if not (binaries() / PROGRAM).is_file():
        found.append(
            error(f"{PROGRAM} is not in {binaries()}.", "Install it: `pip install globus-compute-endpoint`.")
        )
        return found
    if directory.is_dir():
        found += _files(name, directory, options, round_gap_seconds)
    return sorted(found, key=lambda finding: not finding.is_error)


def _place(name: str, root: Path, stray: Path) -> Iterator[Finding]:
    if not stray.is_dir():
        return
    if (root / name).is_dir():
        yield warning(
            f"There is also {stray}, which the agent never reads: its directory has an underscore.",
            f"What you change there has no effect; the agent reads {root / name}.",
        )
    else:
        yield error(
            f"The endpoint is in {stray}, where the agent does not look: its directory has an underscore.",
            f"`appfl-gc endpoint migrate {name}` writes it to {root / name}.",
        )


def _files(
    name: str, directory: Path, options: Mapping[str, Json] | None, round_gap_seconds: float
) -> Iterator[Finding]:
    if (directory / "config.py").exists():
        yield error(
            f"The agent reads {directory / 'config.py'}, written for an older one, and not {CONFIG} beside it.",
            f"Move it away, then `appfl-gc endpoint configure {name} --replace --facility ...`.",
        )
        return
    try:
        core = _read_yaml(directory / CONFIG)
    except UsageError as problem:
        yield error(problem.message, problem.hint)
        return
    if core.get("engine") is not None:
        yield error(
            f"{directory / CONFIG} has the engine, as older agents had it; today's does not start with it.",
            f"`appfl-gc endpoint migrate {name}` moves it to {TEMPLATE}.",
        )
        yield from engine_findings(core, round_gap_seconds)
        return
    if privileged() and not core.get("email"):
        yield error(
            f"The agent runs as root and {directory / CONFIG} has no `email`, so it refuses to start.",
            "Add a line `email: you@institution.edu`.",
        )
    yield from _environment(directory)
    yield from _template(directory, options, round_gap_seconds)


def _environment(directory: Path) -> Iterator[Finding]:
    try:
        values = _read_yaml(directory / ENVIRONMENT)
    except UsageError as problem:
        yield error(problem.message, problem.hint)
        return
    for name, value in values.items():
        if secret_in(f"{name}={value}"):
            yield error(
                f"{directory / ENVIRONMENT} gives {name} to user endpoints, so every task can read it.",
                "Take it out; the agent itself needs no secret there.",
            )
    if privileged() and "PATH" not in values:
        yield error(
            f"The agent runs as root, so it clears the environment, and {directory / ENVIRONMENT} has no PATH.",
            "Add the PATH of this environment, or write the endpoint anew with `appfl-gc endpoint configure`.",
        )


def _template(
    directory: Path, options: Mapping[str, Json] | None, round_gap_seconds: float
) -> Iterator[Finding]:
    path = directory / TEMPLATE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        yield error(f"{path} can't be read.", "Write the endpoint anew with `appfl-gc endpoint configure`.")
        return
    if re.search(r"\buv (venv|pip)\b", text):
        yield error(
            f"{path} makes a new environment with uv for each submitter, and appfl_gc is not in it.",
            f"`appfl-gc endpoint configure {directory.name} --replace --facility ...` writes one that uses this "
            "environment.",
        )
    if secret := secret_in(text):
        yield error(
            f"{path} seems to hold a secret, {secret}, and registration uploads the file.",
            "Keep it in a private file that your own code reads at the site.",
        )
        return  # what the agent says of the file could quote it
    try:
        rendered = loading.rendered(directory, _samples(directory) if options is None else options)
        config = yaml.safe_load(rendered)
    except UsageError as problem:
        yield error(problem.message, "A submitter would be told the same.")
        return
    except yaml.YAMLError as problem:
        yield error(f"{path} renders to what is not YAML: {problem}")
        return
    findings = list(engine_findings(config if isinstance(config, dict) else {}, round_gap_seconds))
    yield from findings
    if not any(finding.is_error for finding in findings):
        yield from _loaded(directory, rendered)


def _loaded(directory: Path, rendered: str) -> Iterator[Finding]:
    try:
        loading.load(directory, rendered)
    except UsageError as problem:
        if "No such device" in problem.message:
            yield error(
                "The engine's network interface is not on this machine, so no worker could reach the agent.",
                "`ip -brief address` lists those there are; give one with `--interface`.",
            )
        else:
            yield error(problem.message, problem.hint)


def _samples(directory: Path) -> dict[str, Json]:
    """A value for each option that the schema requires."""
    try:
        schema = json.loads((directory / SCHEMA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(schema, dict):
        return {}
    properties = schema.get("properties", {})
    return {
        name: _SAMPLES.get(properties.get(name, {}).get("type"), "sample")
        for name in schema.get("required", [])
    }


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise UsageError(f"{path} can't be read: {problem}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{path} has no keys at its top.")
    return value
