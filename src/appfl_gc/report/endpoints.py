"""The endpoints before the first task, as a table for terminals and as lines for files."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from appfl_gc.control.globus_compute.endpoints.facts import EndpointState
from appfl_gc.report.figures import seconds_text
from appfl_gc.runner.events import EndpointRow, EndpointsChecked

MARK = "\N{BLACK CIRCLE}"
CLIENTS_NAMED = 4
ENDPOINTS_LISTED = 20
STYLES = {
    EndpointState.ONLINE: "green",
    EndpointState.OFFLINE: "yellow",
    EndpointState.REFUSED: "red",
    EndpointState.NO_LOGIN: "yellow",
    EndpointState.BAD_LOGIN: "red",
    EndpointState.NO_ANSWER: "yellow",
    EndpointState.UNKNOWN: "dim",
}


def listed(rows: Sequence[EndpointRow]) -> tuple[list[EndpointRow], str]:
    """The rows to show and a sentence about the rest: of many endpoints only those that are not online show."""
    if len(rows) <= ENDPOINTS_LISTED:
        return list(rows), ""
    other = [row for row in rows if row.state is not EndpointState.ONLINE]
    count = len(rows) - len(other)
    more = f", {len(other) - ENDPOINTS_LISTED} more are not" if len(other) > ENDPOINTS_LISTED else ""
    return other[:ENDPOINTS_LISTED], f"{count} of {len(rows)} endpoints are online{more}"


def endpoint_table(rows: Sequence[EndpointRow]) -> Table:
    """The endpoints with their state; a detail has a line of its own beneath."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("endpoint", "state", "agent"):
        table.add_column(title, no_wrap=True)
    table.add_column("clients", overflow="fold")
    for row in rows:
        style = STYLES[row.state]
        state = Text(f"{MARK} {row.state.value}", style=style)
        table.add_row(_name_above_id(row), state, Text(row.agent_version or "-"), Text(_clients(row)))
    return table


def endpoint_lines(rows: Sequence[EndpointRow]) -> list[str]:
    """One line for each endpoint, in columns, without control characters beyond those of the names."""
    cells = [(row.state.value, _named(row), _clients(row), _remark(row)) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)] if cells else []
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in cells
    ]


def waiting_text(event: EndpointsChecked, since: float = 0.0) -> str:
    """What the run waits for and how long, ``since`` seconds after ``event``; "" if it does not wait."""
    waiting = event.waits_for
    if not waiting:
        return ""
    total = len(event.rows)
    some = f"{len(waiting)} of {total} endpoints" if total > 1 else "the endpoint"
    named = "; ".join(
        f"{_clients(row)} at {row.name or row.endpoint_id}: {row.state.value}" for row in waiting[:3]
    )
    more = f"; and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    spent = min(event.waited + since, event.wait_seconds)
    limit = seconds_text(event.wait_seconds)
    so_far = f"{seconds_text(spent)} of {limit}" if spent >= 1 else f"at most {limit}"
    return f"Waiting for {some} ({named}{more}), {so_far}"


def _named(row: EndpointRow) -> str:
    return f"{row.name} ({row.endpoint_id})" if row.name else row.endpoint_id


def _name_above_id(row: EndpointRow) -> Text:
    return Text(row.endpoint_id) if not row.name else Text.assemble(row.name, (f"\n{row.endpoint_id}", "dim"))


def _clients(row: EndpointRow) -> str:
    more = len(row.clients) - CLIENTS_NAMED
    named = ", ".join(row.clients[: CLIENTS_NAMED if more > 0 else None])
    return f"{named} and {more} more" if more > 0 else named


def _remark(row: EndpointRow) -> str:
    return row.detail or (f"agent {row.agent_version}" if row.agent_version else "")
