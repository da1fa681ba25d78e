"""What a figure was measured on."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from appfl_gc.site.host import available_cores, installed_versions


def facts() -> dict[str, Any]:
    """Date, processor, cores, memory, load, Python and versions, as JSON values."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "processor": _after("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": available_cores(),
        "memory": _after("/proc/meminfo", "MemTotal"),
        "load_average": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": installed_versions(),
    }


def _after(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
