"""Write a complete endpoint for the installed agent."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from appfl_gc.hpc.endpoint.engine import LAUNCHERS, user_endpoint_tree
from appfl_gc.hpc.endpoint.options import COMPUTE_ENGINE, EndpointOptions, check_name
from appfl_gc.hpc.endpoint.template import Tree, render, variables
from appfl_gc.hpc.endpoint.worker_environment import user_environment, worker_init
from appfl_gc.hpc.facility import Facility, load_facility
from appfl_gc.hpc.knobs import KNOBS
from appfl_gc.protocol.errors import StorageError, UsageError
from appfl_gc.protocol.wire import Json

USER_DIRECTORY = "GLOBUS_COMPUTE_USER_DIR"
CONFIG = "config.yaml"
TEMPLATE = "user_config_template.yaml.j2"
SCHEMA = "user_config_schema.json"
ENVIRONMENT = "user_environment.yaml"
IDENTIFIER = "endpoint.json"
PID = "daemon.pid"
BACKUPS = "backups"

# Text that a submitter gives reaches a shell; with an allow list of functions that would be a way around it.
_CODE = frozenset(name for name, knob in KNOBS.items() if knob.code)

_NODE_LOCAL = ("/tmp", "/var/tmp", "/dev", "/run", "/proc", "/local/scratch")


@dataclass(frozen=True)
class Endpoint:
    """An endpoint's files on this machine.

    Attributes:
        name: the directory's name.
        directory: the files' place, absolute.
        backup: where the files of the same name went that were there before, if any.
        required: variables that each submitter must give.
        review: what an administrator must look at before it is started, a sentence each.
    """

    name: str
    directory: Path
    backup: Path | None = None
    required: tuple[str, ...] = ()
    review: tuple[str, ...] = ()


def user_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where endpoints are: ``$GLOBUS_COMPUTE_USER_DIR`` or ``~/.globus_compute``."""
    chosen = environ.get(USER_DIRECTORY)
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".globus_compute"


def configure(
    name: str,
    options: EndpointOptions = EndpointOptions(),  # noqa: B008  frozen
    user_dir: Path | None = None,
    *,
    replace: bool = False,
) -> Endpoint:
    """Write the endpoint ``name``.

    Args:
        name: the endpoint's name on this machine.
        options: what to write.
        user_dir: where endpoints are; the agent's own choice if None.
        replace: move an endpoint of this name aside first; its UUID is kept.

    Raises:
        UsageError: if an option can't be used, or the endpoint exists and ``replace`` is False, or it runs.
        StorageError: if the files can't be written.
    """
    check_name(name)
    options.check()
    facility = load_facility(options.facility)
    root = (user_dir or user_directory()).expanduser().absolute()
    target = root / name
    shared = _shared_directory(name, facility, options, root)
    files, required = _files(facility, options, target, root, shared)
    if target.exists() and not replace:
        raise UsageError(
            f"There is an endpoint {name} already, in {target}.",
            "Take another name, or give `--replace`: the old files are kept in a backup, and so is its UUID.",
        )
    try:
        return _write(name, target, files, required)
    except OSError as error:
        raise StorageError(
            f"The endpoint {name} can't be written: {error.filename or target}: {error.strerror or error}.",
            f"Name another place in ${USER_DIRECTORY}.",
        ) from None


def privileged() -> bool:
    """Whether the agent would see itself as privileged: root, or a process with capabilities."""
    if os.geteuid() == 0:
        return True
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    held = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return bool(held) and int(held[0], 16) != 0


def _shared_directory(name: str, facility: Facility, options: EndpointOptions, root: Path) -> str | None:
    """Where user endpoints, workers and the site write; None leaves the agent's and the site's own places."""
    if options.multi_user:
        return str(options.directory or f"$HOME/.appfl_gc/endpoints/{name}")
    if options.directory is None:
        if not facility.provider.batch:
            return None
        chosen = Path.home() / ".appfl_gc" / "endpoints" / name
    else:
        chosen = options.directory.expanduser().absolute()
    if facility.provider.batch:
        _check_reachable(chosen.resolve(), facility)
    if not str(chosen).isprintable() or "$" in str(chosen):
        raise UsageError(f"The directory {str(chosen)!r} has characters that a job script can't hold.")
    return str(chosen)


def _check_reachable(directory: Path, facility: Facility) -> None:
    """Refuse what the workers' nodes can't see: the directory, or this Python environment."""
    for path, option in (
        (directory, "Name a directory of a shared file system with `--directory`."),
        (Path(sys.prefix).resolve(), "Install appfl_gc into an environment on a shared file system."),
    ):
        if any(path == Path(place) or Path(place) in path.parents for place in _NODE_LOCAL):
            raise UsageError(
                f"{path} is on this node only, and the workers of the facility `{facility.name}` run on others.",
                option,
            )


def _files(
    facility: Facility, options: EndpointOptions, target: Path, root: Path, shared: str | None
) -> tuple[dict[str, str], tuple[str, ...]]:
    if options.allowed_functions and options.engine == COMPUTE_ENGINE:
        code = _CODE if facility.provider.batch else frozenset({"worker_init"})
        code -= {"select_options"} if facility.provider.value != "PBSProProvider" else set()
        options = dataclasses.replace(options, locked=options.locked | code)
    site = None if shared is None else Path(shared) / "site"
    tree = user_endpoint_tree(
        facility,
        options,
        worker_init(facility, options, site),
        None if shared is None else f"{shared}/agents",
    )
    required = tuple(name for name, must in variables(tree).items() if must)
    files = {
        CONFIG: _core_config(options),
        TEMPLATE: render(tree, _comment(facility)),
        SCHEMA: json.dumps(_schema(tree, facility), indent=2) + "\n",
        ENVIRONMENT: "# Variables of user endpoints. Workers see them, so secrets don't belong here.\n"
        + yaml.safe_dump(user_environment(options, target, root, site), sort_keys=False, allow_unicode=True),
    }
    if options.endpoint_id is not None:
        files[IDENTIFIER] = json.dumps({"endpoint_id": options.endpoint_id.lower()})
    return files, required


def _core_config(options: EndpointOptions) -> str:
    email = options.contact_email
    if email is None and privileged():
        email = f"{getpass.getuser()}@localhost"  # the agent insists on one when it runs as root
    settings: dict[str, Json] = {
        "display_name": options.display_name,
        "email": email,
        "heartbeat_period": options.heartbeat_seconds,
        "allowed_functions": list(options.allowed_functions) or None,
        "amqp_port": options.amqp_port,
    }
    kept = {key: value for key, value in settings.items() if value is not None}
    return "# The agent's own settings; the engine is in the template.\n" + yaml.safe_dump(
        kept, sort_keys=False
    )


def _schema(tree: Tree, facility: Facility) -> dict[str, Json]:
    names = variables(tree)
    properties: dict[str, Json] = {name: KNOBS[name].schema for name in names}
    if "launcher" in properties:
        properties["launcher"] = {"enum": list(LAUNCHERS[facility.provider])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": [name for name, must in names.items() if must],
        "additionalProperties": False,
    }


def _comment(facility: Facility) -> str:
    return (
        f"{facility.title} ({facility.described_as}). Registration uploads this file: no secrets here.\n"
        "The schema beside it names what a submitter may set in user_endpoint_config."
    )


def _write(name: str, target: Path, files: Mapping[str, str], required: tuple[str, ...]) -> Endpoint:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as scratch:
        fresh = Path(scratch) / name
        fresh.mkdir(mode=0o700)
        for filename, text in files.items():
            path = fresh / filename
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
        backup = _move_aside(target, fresh) if target.exists() else None
        fresh.rename(target)
    return Endpoint(name, target, backup, required)


def _move_aside(target: Path, fresh: Path) -> Path:
    pid_file = target / PID
    if pid_file.exists():
        raise UsageError(
            f"The endpoint {target.name} runs, or ended without tidying up.",
            f"`appfl-gc endpoint stop {target.name}` first.",
        )
    old = target / IDENTIFIER
    if old.is_file() and not (fresh / IDENTIFIER).exists():
        shutil.copyfile(old, fresh / IDENTIFIER)
    # Not beside the endpoints: whatever lies there with a config.yaml counts as one.
    backup = target.parent / BACKUPS / f"{target.name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    backup.parent.mkdir(mode=0o700, exist_ok=True)
    target.rename(backup)
    return backup
