"""What going on with a run would do, as tables for people and as one JSON document."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from appfl_gc.protocol.wire import Json, clean_text
from appfl_gc.report.diagnosis import diagnosis_json, print_diagnosis
from appfl_gc.report.figures import seconds_text
from appfl_gc.runner.resume.plan import Fate, Plan

CLIENTS_LISTED = 200
_WORDS = {
    Fate.USED: "its update has arrived and is used",
    Fate.ATTACHED: "attached to",
    Fate.LOOKED_FOR: "looked for at the service, else sent again",
    Fate.SENT_AGAIN: "sent again; a site that has the answer sends that",
    Fate.SENT: "sent; it had not left",
    Fate.GREETED: "greeted, and takes part if it answers",
    Fate.NOTHING: "waits for its next round",
}


def print_plan(console: Console, plan: Plan) -> None:
    """What is kept, what becomes of each call, and the checks."""
    past, rounds = plan.past, plan.past.rounds
    console.print(Text(f"Run {past.directory.path}", style="bold"), soft_wrap=True)
    for line in (
        f"kept: {_many(rounds.rounds, 'round')} ({_many(rounds.updates, 'update')}), version {past.version} of the "
        f"global model, {seconds_text(past.seconds)} of run",
        "Its server ended it."
        if past.orderly
        else "Its server did not end it: that was killed, or its machine.",
    ):
        console.print(Text(f"  {line}"), soft_wrap=True)
    console.print()
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("client", "call", "what happens"):
        table.add_column(name, no_wrap=name != "what happens", overflow="fold")
    for item in plan.items[:CLIENTS_LISTED]:
        detail = f" {clean_text(item.detail, 300)}" if item.detail else ""
        table.add_row(
            Text(item.client),
            str(item.dispatch or "-"),
            Text(f"{_WORDS[item.fate]}.{detail}".replace("\n", " ")),
        )
    console.print(Padding(table, (0, 0, 0, 2)))
    if len(plan.items) > CLIENTS_LISTED:
        console.print(f"  and {len(plan.items) - CLIENTS_LISTED} more; --format json has them all")
    console.print()
    print_diagnosis(console, plan.rows)


def plan_json(plan: Plan, exit_code: int) -> dict[str, Json]:
    """The whole plan; ``exit_code`` is what going on would end with, as far as can be told."""
    past = plan.past
    return {
        "run": past.run_id,
        "directory": str(past.directory.path),
        "began": past.began,
        "orderly": past.orderly,
        "resumed": past.resumed,
        "rounds": past.rounds.rounds,
        "updates": past.rounds.updates,
        "version": past.version,
        "seconds": past.seconds,
        "items": [item.to_json() for item in plan.items],
        "changes": [change.to_json() for change in plan.changes],
        "diagnostics": [diagnostic.to_json() for diagnostic in plan.diagnostics],
        **diagnosis_json(plan.rows, exit_code),
    }


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
