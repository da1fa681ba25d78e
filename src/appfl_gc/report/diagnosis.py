"""The doctor's rows as a table for people and as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from appfl_gc.protocol.wire import Json
from appfl_gc.runner.doctor.row import Row, State

MARKS = {
    State.OK: ("ok", "green"),
    State.WARN: ("warning", "yellow"),
    State.FAIL: ("FAILS", "bold red"),
    State.SKIPPED: ("skipped", "dim"),
}
LONGEST_CHECK = 24


def print_diagnosis(console: Console, rows: Sequence[Row]) -> None:
    """The rows by subject, each fix beneath its row, and a line that counts them."""
    checks = min(max((cell_len(row.check) for row in rows), default=0), LONGEST_CHECK)
    for subject, group in groupby(rows, key=lambda row: row.subject):
        console.print(Text(subject, style="bold"), soft_wrap=True)
        console.print(_table(list(group), checks))
        console.print()
    console.print(Text(verdict(rows), style="bold"), soft_wrap=True)


def verdict(rows: Sequence[Row]) -> str:
    """How many checks ended how, and what that means for a run."""
    counts = {state: sum(row.state is state for row in rows) for state in State}
    fine = counts[State.OK]
    parts = [f"{fine} check is fine" if fine == 1 else f"{fine} checks are fine"]
    if counts[State.WARN]:
        parts.append(_count(counts[State.WARN], "warning"))
    if counts[State.SKIPPED]:
        parts.append(f"{counts[State.SKIPPED]} not checked")
    if counts[State.FAIL]:
        parts.append(f"{counts[State.FAIL]} would make a run fail")
    return f"{', '.join(parts)}."


def diagnosis_json(rows: Sequence[Row], exit_code: int) -> dict[str, Json]:
    """``ok``, ``exit_code`` and the rows."""
    return {
        "ok": exit_code == 0,
        "exit_code": exit_code,
        "rows": [
            {
                "subject": row.subject,
                "check": row.check,
                "state": row.state.value,
                "finding": row.finding,
                "fix": row.fix,
                "error_class": None if row.error_class is None else row.error_class.value,
            }
            for row in rows
        ],
    }


def _table(rows: Sequence[Row], checks: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(width=2)
    table.add_column(width=7, no_wrap=True)
    table.add_column(width=checks, no_wrap=True, overflow="ellipsis")
    table.add_column(overflow="fold")
    for row in rows:
        word, style = MARKS[row.state]
        finding = Text(row.finding, style="dim" if row.state is State.SKIPPED else "")
        if row.fix:
            finding.append(f"\nFix: {row.fix}", style="cyan")
        table.add_row("", Text(word, style=style), Text(row.check), finding)
    return table


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
