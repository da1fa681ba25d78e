"""``--format json``: one JSON object a line for every event; the last one is the summary."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from appfl_gc.protocol.wire import Json
from appfl_gc.report.progress import ClientProgress, Clock, RunProgress
from appfl_gc.runner.events import RunEvent, RunFinished


class JsonLines:
    """Writes ``{"event": "round_started", "at": seconds of run, ...the event's fields}``.

    The line of ``run_finished`` also has ``exit_code`` and ``clients``: updates, mean seconds and last
    metrics of each. Numbers that JSON lacks (NaN, infinite) become null. Traces are left out unless ``debug``
    is set.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        exit_code: Callable[[RunFinished], int],
        debug: bool = False,
        clock: Clock = time.monotonic,
    ) -> None:
        """Write to ``stream``; ``exit_code`` says what the program will exit with."""
        self._stream = stream
        self._exit_code = exit_code
        self._debug = debug
        self._progress = RunProgress(clock)

    def __enter__(self) -> JsonLines:
        """Nothing to set up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def on_event(self, event: RunEvent) -> None:
        """Write the line of one event."""
        self._progress.apply(event)
        fields = {field.name: plain_json(getattr(event, field.name)) for field in dataclasses.fields(event)}
        if isinstance(event, RunFinished):
            fields["exit_code"] = self._exit_code(event)
            fields["clients"] = {name: _client_row(client) for name, client in self._progress.clients.items()}
        error = fields.get("error")
        if isinstance(error, dict) and not self._debug:
            error.pop("trace", None)
        self._write(_snake_case(type(event).__name__), fields)

    def ended_by(self, exit_code: int, errors: Sequence[Mapping[str, Json]]) -> None:
        """Write ``{"event": "error", ...}``, the last line where there is no ``run_finished``."""
        self._write("error", {"exit_code": exit_code, "errors": [dict(error) for error in errors]})

    def _write(self, event: str, fields: Mapping[str, Json]) -> None:
        line = {"event": event, "at": round(self._progress.elapsed, 3), **fields}
        self._stream.write(json.dumps(line, allow_nan=False) + "\n")
        self._stream.flush()


def plain_json(value: Any) -> Json:
    """An event's field as JSON. Raises ``TypeError`` for a type that events do not have."""
    if isinstance(value, enum.Enum):
        return plain_json(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain_json(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise TypeError(f"An event has a field of type {type(value).__name__}, which has no JSON form.")


def _client_row(client: ClientProgress) -> Json:
    return {
        "state": client.state.value,
        "updates": client.updates,
        "failures": client.failures,
        "bytes_down": client.bytes_down,
        "bytes_up": client.bytes_up,
        "mean_seconds": plain_json(client.mean),
        "metrics": plain_json(client.metrics),
    }


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
