from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from appfl_gc.control.globus_compute.endpoints.facts import EndpointState
from appfl_gc.report.endpoints import endpoint_lines, endpoint_table, listed, waiting_text
from appfl_gc.report.live import LiveDisplay
from appfl_gc.report.live_view import view
from appfl_gc.report.plain import PlainDisplay
from appfl_gc.report.progress import RunProgress
from appfl_gc.runner.events import EndpointRow, EndpointsChecked
from tests.report.sample_run import Clock, started
from tests.report.test_json_lines import objects_of

ID = "00000000-5a4d-4b0c-8000-00000000000{}"
ONLINE = EndpointRow(ID.format(1), "polaris", ("A", "B"), EndpointState.ONLINE, "", "4.19.0")
OFFLINE = EndpointRow(ID.format(2), "crux", ("C",), EndpointState.OFFLINE)
REFUSED = EndpointRow(ID.format(3), "", ("D",), EndpointState.REFUSED, "It is not shared with you.")
WAITING = EndpointsChecked((ONLINE, OFFLINE), 10.0, 300.0)


def plain(*events: EndpointsChecked) -> list[str]:
    stream = io.StringIO()
    display = PlainDisplay(stream, clock=Clock())
    for event in events:
        display.on_event(event)
    return [line.partition("] ")[2] for line in stream.getvalue().splitlines()]


def test_plain_lines_are_a_table_first_and_changes_later() -> None:
    changed = replace(WAITING, rows=(ONLINE, replace(OFFLINE, state=EndpointState.ONLINE)))
    head, online, offline, waits, still, now = plain(WAITING, replace(WAITING, waited=40.0), changed)
    assert head == "Endpoints:"
    assert online.index("polaris") == offline.index("crux")
    assert ID.format(1) in online and "A, B" in online and "agent 4.19.0" in online
    assert waits == "Waiting for 1 of 2 endpoints (C at crux: offline), 10 s of 5 min 00 s"
    assert "40 s of 5 min 00 s" in still
    assert now.split()[0] == "online" and "crux" in now


def test_the_reason_stands_beside_a_refused_endpoint() -> None:
    assert REFUSED.detail in endpoint_lines([REFUSED])[0]


def test_the_table_shows_every_column() -> None:
    stream = io.StringIO()
    Console(file=stream, width=100).print(endpoint_table([ONLINE, OFFLINE]))
    head, name, number, other, _ = stream.getvalue().splitlines()
    assert head.split() == ["endpoint", "state", "agent", "clients"]
    assert name.split() == ["polaris", "●", "online", "4.19.0", "A,", "B"]
    assert number.strip() == ID.format(1) and "offline" in other


def test_of_many_endpoints_those_in_trouble_are_listed() -> None:
    rows, rest = listed([*[replace(ONLINE, endpoint_id=str(n)) for n in range(100)], OFFLINE])
    assert rows == [OFFLINE]
    assert rest == "100 of 101 endpoints are online"


def test_at_first_the_wait_has_only_its_end() -> None:
    assert waiting_text(replace(WAITING, waited=0.2)).endswith("offline), at most 5 min 00 s")


def test_waiting_ends_when_nothing_can_change() -> None:
    assert waiting_text(EndpointsChecked((ONLINE, REFUSED), 0.0, 300.0)) == ""


def test_the_live_display_keeps_the_table_above_and_counts_the_wait() -> None:
    clock, stream = Clock(), io.StringIO()
    display = LiveDisplay(Console(file=stream, width=100, force_terminal=False), clock=clock)
    for event in (WAITING, replace(WAITING, waited=40.0)):
        display.on_event(event)
    assert stream.getvalue().count("polaris") == 1
    progress = RunProgress(clock)
    progress.apply(started())
    progress.apply(WAITING)
    clock.now += 25
    drawn = io.StringIO()
    Console(file=drawn, width=120, height=30).print(view(progress, 120, 30))
    assert "Waiting for 1 of 2 endpoints (C at crux: offline), 35 s of 5 min 00 s" in drawn.getvalue()


def test_the_json_line_has_the_rows() -> None:
    (line,) = objects_of(WAITING)
    assert (line["event"], line["waited"]) == ("endpoints_checked", 10.0)
    assert line["rows"][1]["state"] == "offline" and line["rows"][0]["clients"] == ["A", "B"]
