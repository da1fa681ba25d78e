"""What a simulation leaves behind: rows as they come, and its summary."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import TracebackType

from appfl_gc.protocol.wire import Json
from appfl_gc.simulation.summary import Summary
from appfl_gc.simulation.timeline import Row, WorkRow

TIMELINE = "timeline.jsonl"
SUMMARY = "summary.json"
_PLACES = 6
"""Digits after the point of a second: microseconds."""


class TimelineFile:
    """Writes each row as a line of JSON when it comes and keeps none: ``add`` is a ``Record``.

    A line has the fields of ``WorkRow`` with ``"kind": "work"``, or of ``FoldRow`` with ``"kind": "fold"``.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def add(self, row: Row) -> None:
        """Write one row."""
        self._file.write(json.dumps(row_to_json(row), separators=(",", ":")) + "\n")

    def __enter__(self) -> TimelineFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def row_to_json(row: Row) -> dict[str, Json]:
    """The JSON form of a row."""
    if isinstance(row, WorkRow):
        fields = {name: _rounded(value) for name, value in vars(row).items()}
        return {"kind": "work", **fields, "fate": row.fate.value}
    return {
        "kind": "fold",
        "at": round(row.at, _PLACES),
        "version": row.version,
        "updates": [[update.client, update.dispatch] for update in row.updates],
        "staleness": list(row.staleness),
        "steps": row.steps,
        "numbers": dict(row.numbers),
    }


def summary_to_json(summary: Summary) -> dict[str, Json]:
    """The JSON form of a summary."""
    return {
        "seconds": round(summary.seconds, _PLACES),
        "finished": summary.finished,
        "events": summary.events,
        "updates": summary.updates,
        "folded": summary.folded,
        "versions": summary.versions,
        "steps": summary.steps,
        "mean_staleness": summary.mean_staleness,
        "max_staleness": summary.max_staleness,
        "idle_share": summary.idle_share,
        "train_share": summary.train_share,
        "numbers": dict(summary.numbers),
        "clients": {
            client: {name: _rounded(value) for name, value in dataclasses.asdict(totals).items()}
            for client, totals in summary.clients.items()
        },
    }


def _rounded(value: Json) -> Json:
    return round(value, _PLACES) if isinstance(value, float) else value
