"""Tables of the comparison, and how they get into a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appfl_gc.simulation.builtin_profiles import TURN_AROUND
from comparison.conditions import CONDITIONS, Condition
from comparison.measures import Comparison, Spread
from comparison.methods import METHODS, SYNC
from comparison.trial import ROUNDS

FOUR = "four-supercomputers"
Row = dict[str, str]


def condition_rows(rows: Mapping[tuple[str, str], Comparison], condition: Condition) -> list[Row]:
    """A row for each algorithm under ``condition``."""
    names = [method.name for method in METHODS]
    return [_row(rows[condition.name, name]) for name in names if (condition.name, name) in rows]


def _row(one: Comparison) -> Row:
    seconds = one.seconds.text(".0f") if one.seconds else "not reached"
    if 0 < one.reached < one.seeds:
        seconds += f", in {one.reached} of {one.seeds}"
    return {
        "": one.method,
        "seconds to the target": seconds,
        "times as fast as Sync": _beside(one, one.speed_up),
        "updates per second beside Sync": _beside(one, one.updates),
        "last accuracy (%)": one.final.text(".1f"),
        "idle (%)": one.idle.text(".0f"),
        "training (%)": one.train.text(".0f"),
        "staleness": one.staleness.text(".1f"),
    }


def _beside(one: Comparison, spread: Spread | None) -> str:
    return "1" if one.method == SYNC.name else spread.text(".2f") if spread else ""


def bound() -> float:
    """How many times the updates of synchronous rounds the four supercomputers can make if none ever waits."""
    slowest = max(TURN_AROUND.values())
    return sum(slowest / seconds for seconds in TURN_AROUND.values()) / len(TURN_AROUND)


def bound_rows(rows: Mapping[tuple[str, str], Comparison]) -> list[Row]:
    """Each algorithm on the four supercomputers beside the bound on updates."""
    most = f"{bound():.2f}"
    table = [
        {"": "no site ever waits: the bound", "updates": most, "local steps": most, "time to the target": ""}
    ]
    for method in METHODS:
        one = rows[FOUR, method.name]
        table.append(
            {
                "": method.name,
                "updates": one.updates.text(".2f"),
                "local steps": one.steps.text(".2f"),
                "time to the target": one.speed_up.text(".2f") if one.speed_up else "not reached",
            }
        )
    return table


def settings(seeds: int, rounds: int, minutes: float, machine: Mapping[str, Any]) -> str:
    """A sentence on what was run where."""
    packages = machine["packages"]
    horizon = "" if rounds == ROUNDS else f", {rounds} rounds"
    return (
        f"Median of {seeds} seeds{horizon} (least to most). Computed in {minutes:.0f} minutes on {machine['cores']} "
        f"cores on {str(machine['date'])[:10]} with Python {machine['python']} and torch {packages['torch']}.\n"
    )


def markdown(rows: Sequence[Row]) -> str:
    """``rows`` as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def parts(rows: Mapping[tuple[str, str], Comparison], about: str) -> dict[str, str]:
    """What goes between the markers of the page, by their names."""
    names = {name for name, _ in rows}
    made = {"settings": about}
    made |= {
        condition.name: markdown(condition_rows(rows, condition))
        for condition in CONDITIONS
        if condition.name in names
    }
    if FOUR in names:
        made["bound"] = markdown(bound_rows(rows))
    return made


def write(page: Path, made: Mapping[str, str]) -> list[str]:
    """Put each part between its markers ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; the names without any."""
    text = page.read_text(encoding="utf-8")
    missing = []
    for name, part in made.items():
        pattern = re.compile(
            rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL
        )
        if not pattern.search(text):
            missing.append(name)
        text = pattern.sub(lambda found, part=part: f"{found[1]}\n{part}\n{found[2]}", text)
    page.write_text(text, encoding="utf-8")
    return missing
