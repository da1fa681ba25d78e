"""Write a complete endpoint for the installed agent."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.hpc.endpoint import multi_user
from appfl_gc.hpc.endpoint.files import IDENTIFIER, PID, TEMPLATE, endpoint_files
from appfl_gc.hpc.endpoint.options import EndpointOptions, check_name
from appfl_gc.hpc.facility import Facility, load_facility
from appfl_gc.protocol.errors import StorageError, UsageError

USER_DIRECTORY = "GLOBUS_COMPUTE_USER_DIR"
BACKUPS = "backups"

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
    facility: Facility | None = None,
) -> Endpoint:
    """Write the endpoint ``name``.

    Args:
        name: the endpoint's name on this machine.
        options: what to write.
        user_dir: where endpoints are; the agent's own choice if None.
        replace: move an endpoint of this name aside first; its UUID is kept.
        facility: takes the place of the one that ``options`` names.

    Raises:
        UsageError: if an option can't be used, or the endpoint exists and ``replace`` is False, or it runs.
        StorageError: if the files can't be written.
    """
    check_name(name)
    options.check()
    where = facility or load_facility(options.facility)
    target = (user_dir or user_directory()).expanduser().absolute() / name
    files, required = endpoint_files(where, options, target, _shared_directory(name, where, options))
    if target.exists() and not replace:
        raise UsageError(
            f"There is an endpoint {name} already, in {target}.",
            "Take another name, or give `--replace`: the old files are kept in a backup, and so is its UUID.",
        )
    review = multi_user.review(options, target) if options.multi_user else ()
    try:
        return Endpoint(name, target, _write(target, files), required, review)
    except OSError as error:
        raise StorageError(
            f"The endpoint {name} can't be written: {error.filename or target}: {error.strerror or error}.",
            f"Name another place in ${USER_DIRECTORY}.",
        ) from None


def _shared_directory(name: str, facility: Facility, options: EndpointOptions) -> Path | None:
    """Where user endpoints, workers and the site write, or None for their own places in the home directory."""
    if options.multi_user:
        return None
    chosen = options.directory
    if chosen is None and facility.provider.batch:
        chosen = Path.home() / ".appfl_gc" / "endpoints" / name
    if chosen is None:
        return None
    chosen = chosen.expanduser().absolute()
    if facility.provider.batch:
        _check_reachable(chosen.resolve(), facility)
    if not str(chosen).isprintable() or "$" in str(chosen):
        raise UsageError(f"The directory {str(chosen)!r} has characters that a job script can't hold.")
    return chosen


def _check_reachable(directory: Path, facility: Facility) -> None:
    """Refuse what the workers' nodes can't see: the directory, or this Python environment."""
    for path, remedy in (
        (directory, "Name a directory of a shared file system with `--directory`."),
        (Path(sys.prefix).resolve(), "Install appfl_gc into an environment on a shared file system."),
    ):
        if on_this_node_only(path):
            raise UsageError(
                f"{path} is on this node only, and the workers of the facility `{facility.name}` run on others.",
                remedy,
            )


def on_this_node_only(path: Path) -> bool:
    """Whether other nodes of a cluster surely don't see ``path``."""
    return any(path == Path(place) or Path(place) in path.parents for place in _NODE_LOCAL)


def _write(target: Path, files: Mapping[str, str]) -> Path | None:
    """Write all files, or none; returns where an endpoint of this name was moved to."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        fresh = Path(scratch) / target.name
        fresh.mkdir(mode=0o700)
        for filename, text in files.items():
            path = fresh / filename
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
        if multi_user.MAPPING in files:
            # Other users' endpoints read the template after the agent has become that user.
            (fresh / TEMPLATE).chmod(0o644)
        backup = _move_aside(target, fresh) if target.exists() else None
        fresh.rename(target)
    return backup


def _move_aside(target: Path, fresh: Path) -> Path:
    if (target / PID).exists():
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
