"""This machine: what is installed, and whether clients at ``local`` can run here."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator

from appfl_gc.config import LOCAL, Federation
from appfl_gc.control.local.engine import check_platform
from appfl_gc.payload.cores import available_cores
from appfl_gc.protocol.errors import AppflGcError, ErrorClass
from appfl_gc.runner.doctor.row import Row, Subject, answer
from appfl_gc.site.host import installed_versions
from appfl_gc.version import VERSION

AGENT = "globus-compute-endpoint"


def machine_rows(subject: Subject, federation: Federation) -> Iterator[Row]:
    """Versions; with ``local`` clients also platform and engine."""
    yield subject.ok("versions", f"appfl_gc {VERSION}, Python {platform.python_version()}{_torch()}.")
    local = [client.client_id for client in federation.clients if client.endpoint_id == LOCAL]
    if not local:
        return
    refused = answer(check_platform)
    if isinstance(refused, AppflGcError):
        yield subject.fail("platform", refused.message, refused.hint, ErrorClass.USER)
        return
    yield subject.ok("platform", f"{platform.platform()}.")
    control = federation.server_configs.control_configs
    yield _engine(subject, control.engine, control.slots or min(len(local), available_cores()), len(local))


def _torch() -> str:
    found = installed_versions(["torch"])
    return f", torch {found['torch']}" if found else ", no torch"


def _engine(subject: Subject, engine: str, slots: int, clients: int) -> Row:
    version = installed_versions([AGENT]).get(AGENT)
    if version is None:
        return subject.fail(
            "engine",
            f"{AGENT} is not installed; its engines run `local` clients.",
            f"pip install {AGENT}",
            ErrorClass.VERSION,
        )
    if engine == "GlobusComputeEngine" and shutil.which(AGENT) is None:
        return subject.fail(
            "engine",
            f"GlobusComputeEngine needs the program {AGENT} on PATH, and it is not there.",
            "Activate the environment that it is installed in.",
            ErrorClass.USER,
        )
    workers = f"{slots} worker{'' if slots == 1 else 's'} for {clients} client{'' if clients == 1 else 's'}"
    return subject.ok("engine", f"{engine} of {AGENT} {version}, {workers} on {available_cores()} cores.")
