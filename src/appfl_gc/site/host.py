"""Facts about this host, for the site's first reply and the server's record of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

from appfl_gc.payload.cores import available_cores

RECORDED = (
    "appfl_gc",
    "torch",
    "numpy",
    "globus-compute-sdk",
    "globus-compute-endpoint",
    "parsl",
    "proxystore",
    "omegaconf",
    "pydantic",
    "safetensors",
)


def installed_versions(names: Iterable[str] = RECORDED) -> dict[str, str]:
    """Versions of installed distributions; those that are not installed are left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def environment_record() -> dict[str, Any]:
    """Versions, host and processors of this machine. No environment variables: they hold secrets."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "host": platform.node(),
        "cores": available_cores(),
        "working_directory": os.getcwd(),
        "packages": installed_versions(),
    }
