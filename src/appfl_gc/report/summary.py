"""The closing summary: how the run ended, where its results are, what each client did, what to do next."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from appfl_gc.report.figures import (
    accuracy_of,
    bytes_text,
    loss_of,
    seconds_text,
    short_seconds_text,
    value_text,
)
from appfl_gc.report.progress import ClientProgress, Clock, RunProgress
from appfl_gc.runner.events import ClientState, Outcome, RunEvent, RunFinished
from appfl_gc.scheduler.base import Counts

CLIENTS_LISTED = 20
METRICS_LISTED = 12
PIPE_WIDTH = 140
INDENT = 2
GIVEN_UP_FIRST = ("down", "up", "transfer", "loss", "queue", "compute")

_TITLE = {
    Outcome.FINISHED: ("Finished", "bold green"),
    Outcome.PARTIAL: ("Finished without some clients", "bold yellow"),
    Outcome.INTERRUPTED: ("Interrupted", "bold yellow"),
    Outcome.FAILED: ("Failed", "bold red"),
}


class Summary:
    """Prints when the run is over. Attach it after the display, which frees the terminal on the same event."""

    def __init__(self, console: Console, *, clock: Clock = time.monotonic) -> None:
        """Print to ``console``; one that is not a terminal is widened, so that tables stay whole."""
        if not console.is_terminal:
            console.width = max(console.width, PIPE_WIDTH)
        self._console = console
        self._progress = RunProgress(clock)

    def on_event(self, event: RunEvent) -> None:
        """Gather; print on ``RunFinished``."""
        self._progress.apply(event)
        if isinstance(event, RunFinished):
            self._print(event)

    def stopped(self) -> None:
        """Say that the run was stopped before it could end, and where its files are."""
        run_dir = self._progress.run_dir
        if run_dir is not None:
            self._console.print(Text(f"Stopped. What was saved until then is in {run_dir}"), soft_wrap=True)

    def _print(self, end: RunFinished) -> None:
        console = self._console
        console.print()
        console.print(self._title(end), soft_wrap=True)
        for label, text in self._facts(end):
            console.print(Text.assemble("  ", (f"{label:<8}", "dim"), "  ", text), soft_wrap=True)
        if self._progress.clients:
            console.print()
            console.print(Padding(self._table(), (0, 0, 0, INDENT)))
            console.print(self._table_note(), soft_wrap=True)
        for client in self._set_aside()[:CLIENTS_LISTED]:
            reason = client.error.message if client.error else client.detail
            console.print(Text.assemble((client.name, "bold"), f" was set aside: {reason}"), soft_wrap=True)
        steps = list(self._next_steps(end))
        for line in [Text(), *steps] if steps else []:
            console.print(line, soft_wrap=True)

    def _title(self, end: RunFinished) -> Text:
        word, style = _TITLE[end.outcome]
        run = self._progress
        planned = f" of {run.epochs}" if run.epochs else ""
        done = end.rounds if run.counts is Counts.ROUNDS else run.done
        unit = run.unit if planned in {"", " of 1"} and done == 1 else f"{run.unit}s"
        return Text.assemble((word, style), f" after {done}{planned} {unit} in {seconds_text(end.seconds)}")

    def _facts(self, end: RunFinished) -> Iterable[tuple[str, str]]:
        if end.metrics:
            shown = list(end.metrics.items())[:METRICS_LISTED]
            text = ", ".join(f"{name} {value_text(value)}" for name, value in shown)
            best = self._progress.best
            yield "result", f"{text} (best in {self._progress.unit} {best})" if best else text
        if end.model_path is not None:
            yield "model", str(end.model_path)
        yield "metrics", str(end.run_dir / "metrics.jsonl")
        yield "log", str(end.run_dir / "server.log")

    def _set_aside(self) -> list[ClientProgress]:
        return [client for client in self._progress.clients.values() if client.state is ClientState.SET_ASIDE]

    def _table(self) -> Table:
        """The table of clients with as many columns as the console has room for."""
        clients = list(self._progress.clients.values())
        if len(clients) > CLIENTS_LISTED:
            clients.sort(key=_first_to_look_at)
        rows = [_row(client) for client in clients[:CLIENTS_LISTED]]
        room = self._console.width - INDENT
        unlimited = self._console.options.update(max_width=1000)
        for left_out in range(len(GIVEN_UP_FIRST)):
            table = _table(rows, without=GIVEN_UP_FIRST[:left_out])
            if self._console.measure(table, options=unlimited).maximum <= room:
                return table
        return _table(rows, without=GIVEN_UP_FIRST)

    def _table_note(self) -> Text:
        hidden = len(self._progress.clients) - CLIENTS_LISTED
        more = f" {hidden} more clients are in metrics.jsonl." if hidden > 0 else ""
        return Text(f"  queue, compute and transfer are means per update.{more}", style="dim")

    def _next_steps(self, end: RunFinished) -> Iterable[Text]:
        worked = end.model_path is not None or any(
            client.updates for client in self._progress.clients.values()
        )
        if end.outcome is Outcome.INTERRUPTED or (end.outcome is Outcome.FAILED and worked):
            yield Text("Everything computed is saved. To go on from here, when the cause is gone:")
            yield Text(f"  {shlex.join(['appfl-gc', 'resume', str(end.run_dir)])}", style="bold")
        elif end.outcome is Outcome.FAILED:
            yield Text("The same command starts it again when the cause is gone.")


def _first_to_look_at(client: ClientProgress) -> tuple[bool, int, float]:
    mean = client.mean
    seconds = mean.queue + mean.compute + mean.transfer if mean else 0.0
    return (client.state is not ClientState.SET_ASIDE, -client.failures, -seconds)


def _row(client: ClientProgress) -> dict[str, Text]:
    mean = client.mean
    cells = {
        "client": client.name,
        "updates": str(client.updates),
        "queue": short_seconds_text(mean.queue) if mean else "-",
        "compute": short_seconds_text(mean.compute) if mean else "-",
        "transfer": short_seconds_text(mean.transfer) if mean else "-",
        "loss": value_text(loss_of(client.metrics)),
        "accuracy": value_text(accuracy_of(client.metrics)),
        "down": bytes_text(client.bytes_down),
        "up": bytes_text(client.bytes_up),
    }
    style = "red" if client.state is ClientState.SET_ASIDE else ""
    return {name: Text(cell, style=style) for name, cell in cells.items()}


def _table(rows: Sequence[Mapping[str, Text]], without: Collection[str]) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    names = [name for name in rows[0] if name not in without]
    for name in names:
        first = name == "client"
        table.add_column(
            name, justify="left" if first else "right", no_wrap=True, max_width=32 if first else None
        )
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return table
