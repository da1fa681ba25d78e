"""What an agent writes into its endpoint's directory."""

from __future__ import annotations

import json
from pathlib import Path

from appfl_gc.protocol.wire import clean_text

_SHOWN = 2000


def last_words(output: Path) -> str:
    """The end of what the agent wrote, safe to print; of a Python trace its last line only."""
    lines = [line for line in _read(output).splitlines() if line.strip()]
    traced = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent")]
    if traced:
        lines = [*lines[: traced[0]], lines[-1]]
    return clean_text("\n".join(lines)[-_SHOWN:]).strip()


def asked_for_login(output: Path) -> bool:
    """Whether the agent printed the address of a login page."""
    return "/v2/oauth2/authorize?" in _read(output)


def _read(output: Path) -> str:
    try:
        return output.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_pid(path: Path) -> int | None:
    """The process id in a pid file; None if there is none."""
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def read_json(path: Path) -> dict[str, object]:
    """The JSON object in a file; empty if there is none."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def stamp(path: Path) -> int | None:
    """When a file was last written, in nanoseconds; None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
