"""What the live display shows: progress drawn for a width and a height, nothing of terminals or threads."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appfl_gc.protocol.measures import Timing
from appfl_gc.report.endpoints import waiting_text
from appfl_gc.report.figures import (
    accuracy_of,
    bytes_text,
    clock_text,
    loss_of,
    moving_text,
    seconds_text,
    short_seconds_text,
    value_text,
)
from appfl_gc.report.progress import ClientProgress, LogLine, RunProgress
from appfl_gc.runner.events import ClientState
from appfl_gc.scheduler.base import Counts

STYLES = {
    ClientState.CONNECTING: "dim",
    ClientState.READY: "cyan",
    ClientState.SENT: "dim blue",
    ClientState.NO_LOGIN: "yellow",
    ClientState.OFFLINE: "yellow",
    ClientState.QUEUED: "dim blue",
    ClientState.WORKING: "blue",
    ClientState.RETRYING: "yellow",
    ClientState.ARRIVED: "green",
    ClientState.WAITING: "dim cyan",
    ClientState.SET_ASIDE: "red",
}
MARK = "\N{BLACK CIRCLE}"
LOG_LINES_SHOWN = 6
HEADER_LINES = 6
SHOW_SECONDS_FROM = 3.0
WIDEST = 132
GAP = 2


def view(run: RunProgress, width: int, height: int) -> RenderableType:
    """The whole display in at most ``height - 1`` lines of ``width`` columns; the last line stays free."""
    width = min(width - 1, WIDEST)
    free = max(0, height - 1 - HEADER_LINES)
    needed = 1 + len(run.clients)
    log_lines = min(LOG_LINES_SHOWN, len(run.log), max(free - needed - 1, free // 4))
    parts: list[RenderableType] = [*_header(run, width), Text()]
    parts.append(_clients(run, width, free - (log_lines + 1 if log_lines else 0)))
    if log_lines:
        parts += [Text(), *(_log_line(line, width) for line in list(run.log)[-log_lines:])]
    return Group(*parts)


def _header(run: RunProgress, width: int) -> list[RenderableType]:
    model = f"{run.parameters:,} parameters, {bytes_text(run.model_bytes)}"
    left = run.seconds_left()
    return [
        _two_sided(Text(f"Run {run.run_id}", style="bold"), Text(clock_text(run.elapsed)), width),
        _two_sided(Text(str(run.run_dir or ""), style="dim"), Text(model, style="dim"), width),
        Text(),
        _round_line(run, "" if left is None else f"about {seconds_text(left)} left", width),
        _metrics_line(run, width),
    ]


def _two_sided(left: Text, right: Text, width: int) -> Table:
    grid = Table.grid(padding=(0, GAP, 0, 0))
    right_width = min(right.cell_len, width // 2)
    grid.add_column(width=max(1, width - right_width - GAP), no_wrap=True, overflow="ellipsis")
    grid.add_column(width=right_width, justify="right", no_wrap=True, overflow="ellipsis")
    grid.add_row(left, right)
    return grid


def _round_line(run: RunProgress, left: str, width: int) -> Table:
    label = Text(_position(run), style="bold")
    share = done_share(run)
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    tail = Text(f"{share:4.0%}  {left}".rstrip())
    bar = ProgressBar(
        total=1.0,
        completed=share,
        width=max(4, min(48, width - label.cell_len - tail.cell_len - 3 * GAP)),
        complete_style="cyan",
        finished_style="green",
    )
    grid.add_row(label, bar, tail)
    return grid


def _position(run: RunProgress) -> str:
    if run.counts is Counts.UPDATES and any(client.round for client in run.clients.values()):
        return f"Update {run.done} of {run.epochs}"
    return f"Round {run.round} of {run.epochs}" if run.round else "Connecting"


def done_share(run: RunProgress) -> float:
    """The share of the run that is done, 0 to 1: rounds, and in the current one the updates that came; or updates."""
    if not run.epochs or not run.clients:
        return 0.0
    arrived = sum(client.trained_round > run.done for client in run.clients.values())
    in_round = arrived / len(run.clients) if run.round > run.done else 0.0
    return min(1.0, (run.done + in_round) / run.epochs)


def _metrics_line(run: RunProgress, width: int) -> Text:
    if run.moving is not None:
        line = Text(moving_text(run.moving), style="blue", no_wrap=True, overflow="ellipsis")
        line.truncate(width, overflow="ellipsis")
        return line
    if not run.done:
        waiting = "" if run.endpoints is None else waiting_text(run.endpoints, run.elapsed - run.endpoints_at)
        text, style = (waiting, "yellow") if waiting else (f"No {run.unit} is done yet.", "dim")
        line = Text(text, style=style, no_wrap=True, overflow="ellipsis")
        line.truncate(width, overflow="ellipsis")
        return line
    best = f" (best: {run.unit} {run.best})" if run.best else ""
    line = Text(f"After {run.unit} {run.done}{best}:", style="dim")
    for name in sorted(run.metrics, key=_metric_rank):
        part = Text(f"   {name} {value_text(run.metrics[name])}", style="default")
        if line.cell_len + part.cell_len > width:
            break
        line = Text.assemble(line, part)
    line.truncate(width, overflow="ellipsis")
    return line


def _metric_rank(name: str) -> int:
    """What describes the new model best comes first: the server's validation, then the clients'."""
    order = ("server_val_", "val_", "train_")
    return next((rank for rank, start in enumerate(order) if name.startswith(start)), len(order))


def _log_line(line: LogLine, width: int) -> Text:
    logged = line.logged
    style = "red" if logged.level >= logging.ERROR else "yellow" if logged.level >= logging.WARNING else "dim"
    words = " ".join(logged.message.split())
    text = Text.assemble(
        (f"{clock_text(line.at)}  ", "dim"),
        (f"{logged.client}: " if logged.client else "", "dim"),
        (words, style),
    )
    text.truncate(width, overflow="ellipsis")
    return text


@dataclass(frozen=True)
class _Column:
    title: str
    width: int
    cell: Callable[[RunProgress, ClientProgress], str]
    right: bool = True


def _state_text(run: RunProgress, client: ClientProgress) -> str:
    waited = run.elapsed - client.since
    idle = {ClientState.READY, ClientState.ARRIVED, ClientState.WAITING, ClientState.SET_ASIDE}
    counts = client.state not in idle
    seconds = f" {short_seconds_text(waited)}" if counts and waited >= SHOW_SECONDS_FROM else ""
    share = "" if client.task_share is None else f" {client.task_share:.0%}"
    return f"{MARK} {client.state.value}{share}{seconds}"


def _seconds(timing: Timing | None, part: str) -> str:
    if timing is None:
        return "-"
    seconds = {"queue": timing.queue, "compute": timing.compute, "transfer": timing.transfer}[part]
    return short_seconds_text(seconds)


# In the order in which they are given up when the terminal is narrow: the last ones first.
_BY_IMPORTANCE = (
    _Column("state", 19, _state_text, right=False),
    _Column("round", 5, lambda _, c: str(c.round or "-")),
    _Column("accuracy", 8, lambda _, c: value_text(accuracy_of(c.metrics))),
    _Column("loss", 8, lambda _, c: value_text(loss_of(c.metrics))),
    _Column("compute", 7, lambda _, c: _seconds(c.timing, "compute")),
    _Column("queue", 7, lambda _, c: _seconds(c.timing, "queue")),
    _Column("transfer", 8, lambda _, c: _seconds(c.timing, "transfer")),
    _Column("steps", 6, lambda _, c: str(c.steps or "-")),
    _Column("up", 7, lambda _, c: bytes_text(c.bytes_up)),
    _Column("down", 7, lambda _, c: bytes_text(c.bytes_down)),
)
_IN_ORDER = ("state", "round", "steps", "loss", "accuracy", "down", "up", "queue", "compute", "transfer")


def _columns(free: int) -> list[_Column]:
    chosen: list[_Column] = []
    for column in _BY_IMPORTANCE:
        free -= column.width + GAP
        if free < 0:
            break
        chosen.append(column)
    return sorted(chosen, key=lambda column: _IN_ORDER.index(column.title))


def _clients(run: RunProgress, width: int, room: int) -> RenderableType:
    clients = list(run.clients.values())
    if 1 + len(clients) <= room:
        return _table(run, clients, width)
    rows = max(0, room - 3)
    chosen = sorted(clients, key=_first_to_look_at)[:rows]
    rest = Text(f"and {len(clients) - len(chosen)} more clients", style="dim")
    if not chosen:
        return _counts(clients)
    return Group(_counts(clients), _table(run, chosen, width), rest)


def _counts(clients: Sequence[ClientProgress]) -> Text:
    counts = Counter(client.state for client in clients)
    parts: list[tuple[str, str]] = [(f"{len(clients)} clients:", "bold")]
    for state in ClientState:
        if counts[state]:
            parts.append((f"   {MARK} {counts[state]} {state.value}", STYLES[state]))
    line = Text.assemble(*parts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _first_to_look_at(client: ClientProgress) -> tuple[int, float, str]:
    """Clients in trouble first, then those that have worked longest, then the rest by name."""
    order = (
        ClientState.NO_LOGIN,
        ClientState.OFFLINE,
        ClientState.RETRYING,
        ClientState.SET_ASIDE,
        ClientState.QUEUED,
        ClientState.WORKING,
        ClientState.SENT,
        ClientState.CONNECTING,
    )
    rank = order.index(client.state) if client.state in order else len(order)
    return rank, client.since if rank < len(order) else 0.0, client.name


def _table(run: RunProgress, clients: Sequence[ClientProgress], width: int) -> Table:
    name_width = max([len("client"), *(Text(client.name).cell_len for client in clients)])
    name_width = max(1, min(name_width, 28, width))
    columns = _columns(width - name_width)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("client", width=name_width, no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_column(
            run.task if column.title == "round" else column.title,
            width=column.width,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for client in clients:
        style = STYLES[client.state]
        cells = [
            Text(column.cell(run, client), style=style if column.title == "state" else "")
            for column in columns
        ]
        table.add_row(Text(client.name), *cells)
    return table
