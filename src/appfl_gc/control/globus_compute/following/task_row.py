"""What the service says of one task: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from appfl_gc.control.plane import CallState
from appfl_gc.protocol.wire import Json

UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_STATES: Mapping[str, CallState] = {
    "received": CallState.WAITING_FOR_ENDPOINT,
    "waiting-for-ep": CallState.WAITING_FOR_ENDPOINT,
    "waiting-for-nodes": CallState.WAITING_FOR_NODES,
    "waiting-for-launch": CallState.WAITING_FOR_NODES,
    "running": CallState.RUNNING,
}


def status_of(row: Mapping[str, Json]) -> str:
    """Its status, in the service's words."""
    return str(row.get("status", "")).lower()


def state_of(row: Mapping[str, Json]) -> CallState | None:
    """How far it is; None where it is over or nothing is said."""
    return _STATES.get(status_of(row))


def is_over(row: Mapping[str, Json]) -> bool:
    """Whether it has ended, one way or the other."""
    return status_of(row) in ("success", "failed")


def result_of(row: Mapping[str, Json]) -> str | None:
    """What the site returned; None where it has not, or the service does not have it any more."""
    result = row.get("result")
    return result if status_of(row) == "success" and isinstance(result, str) else None


def process_of(row: Mapping[str, Json]) -> str:
    """UUID of the endpoint or user endpoint that runs it, or "" where none is named."""
    details = row.get("details")
    named = details.get("endpoint_id") if isinstance(details, dict) else None
    return named if isinstance(named, str) and UUID_FORM.fullmatch(named) else ""
