"""Tables on the terminal and figures in JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

Row = Mapping[str, Any]


def show(title: str, rows: Sequence[Row]) -> None:
    """Print ``rows`` below ``title``; the keys of the first row are the columns."""
    columns = list(rows[0])
    lines = [columns, *([_text(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    print(f"\n{title}")
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip(), flush=True)


def markdown(rows: Sequence[Row]) -> str:
    """``rows`` as a table for a page; the keys of the first row are the columns."""
    columns = list(rows[0])
    lines = [
        columns,
        ["---"] * len(columns),
        *([_text(row.get(column)) for column in columns] for row in rows),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def write(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write figures with the machine's facts; nothing where ``path`` is None."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine.facts(), **content}, indent=1) + "\n")


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and best of several durations, in milliseconds."""
    return {"median ms": 1000 * statistics.median(seconds), "best ms": 1000 * min(seconds)}


def verdict(what: str, beside: str, ratio: float, most: float | None = None) -> dict[str, Any]:
    """A row of the summary: ``what`` in multiples of what it stands beside, and whether that is within ``most``."""
    met = None if most is None else "yes" if ratio <= most else "NO"
    return {
        "what": what,
        "ratio": ratio,
        "beside": beside,
        "target": most and f"at most {most:g}",
        "met": met,
    }


def at_least(what: str, beside: str, ratio: float, least: float) -> dict[str, Any]:
    """A row of the summary: ``what`` in multiples of what it stands beside, and whether that is ``least`` or more."""
    met = "yes" if ratio >= least else "NO"
    return {"what": what, "ratio": ratio, "beside": beside, "target": f"at least {least:g}", "met": met}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
