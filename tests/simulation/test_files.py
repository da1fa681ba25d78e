from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.builtin_profiles import builtin_profiles
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.files import TimelineFile, summary_to_json
from appfl_gc.simulation.gantt import COLOURS, MOST_CLIENTS, MOST_ROWS, Gantt
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.timeline import Row, Timeline
from tests.simulation.federations import Counting, constant, scheduler

SVG = "{http://www.w3.org/2000/svg}"


def test_every_row_is_a_line_and_the_summary_is_their_sum(tmp_path: Path) -> None:
    timeline, path = Timeline(), tmp_path / "timeline.jsonl"
    with TimelineFile(path) as file:

        def record(row: Row) -> None:
            file.add(row)
            timeline.add(row)

        clients = builtin_profiles("normal", 3)
        summary = simulate(scheduler("buffered", 20), clients, Counting(), record=record)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    work = [row for row in rows if row["kind"] == "work"]
    folds = [row for row in rows if row["kind"] == "fold"]
    assert (len(work), len(folds)) == (len(timeline.work), len(timeline.folds))
    assert [fold["version"] for fold in folds] == list(range(1, len(folds) + 1))
    assert sum(len(fold["updates"]) for fold in folds) == 20
    told = summary_to_json(summary)
    assert json.loads(json.dumps(told)) == told
    assert told["updates"] == sum(row["fate"] == "arrived" for row in work)
    trained = sum(row["train"] for row in work if row["fate"] == "arrived")
    assert abs(sum(client["train"] for client in told["clients"].values()) - trained) < 1e-3


def picture(kind: str, clients: list[ClientProfile], epochs: int = 6) -> tuple[ElementTree.Element, str]:
    gantt = Gantt(clients, "A <title> & more")
    summary = simulate(scheduler(kind, epochs), clients, Counting(), record=gantt.add)
    text = gantt.svg(summary)
    return ElementTree.fromstring(text), text


def test_the_picture_has_a_bar_for_each_part_of_each_dispatch() -> None:
    clients = [
        constant("<fast & small>", 1.0),
        constant("slow", 2.0, loss=0.3, availability=Availability(((25.0, 40.0),))),
    ]
    root, _ = picture("sync", clients)
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert {"A <title> & more", "<fast & small>", "slow", "10"} <= set(words)
    fills = [element.get("fill") for element in root.iter(f"{SVG}rect")]
    legend = 1
    assert fills.count(COLOURS["trains (local steps)"]) >= 6 + legend
    assert fills.count(COLOURS["down"]) == 1 + legend
    assert fills.count(COLOURS["brings nothing"]) > legend
    assert fills.count(COLOURS["waits in a queue"]) == legend
    versions = [e for e in root.iter(f"{SVG}line") if e.get("stroke") == COLOURS["new version"]]
    assert len(versions) == 6
    width = float(root.get("width", 0))
    for element in root.iter(f"{SVG}rect"):
        left = float(element.get("x", 0))
        assert 0 <= left <= left + float(element.get("width", 0)) <= width + 1


@pytest.mark.parametrize(
    ("versions", "legend", "below"),
    [(60, "new version", True), (61, "new version (marks above the rows)", False)],
)
def test_many_new_versions_do_not_hide_the_bars(versions: int, legend: str, below: bool) -> None:
    root, _ = picture("sync", [constant("a", 1.0)], epochs=versions)
    assert legend in [element.text for element in root.iter(f"{SVG}text")]
    marks = [e for e in root.iter(f"{SVG}line") if e.get("stroke") == COLOURS["new version"]]
    assert len(marks) == versions
    first = next(
        e
        for e in root.iter(f"{SVG}rect")
        if e.get("fill") == COLOURS["trains (local steps)"] and e.get("y") != "36"
    )
    assert all((float(mark.get("y2", 0)) > float(first.get("y", 0))) is below for mark in marks)


def test_windows_without_end_are_not_drawn_one_by_one() -> None:
    clients = [constant("a", 3e6), constant("b", 1.0, availability=Availability(((30.0, 40.0),), 40.0))]
    gantt = Gantt(clients, "title")
    summary = simulate(scheduler("sync", 1), clients, Counting(), until=80_000, record=gantt.add)
    text = gantt.svg(summary)
    assert len(text) < 10_000
    assert "windows in which a client is down are too many to be shown" in text


def test_a_large_simulation_has_a_small_picture() -> None:
    clients = list(builtin_profiles("exponential", 60))
    root, text = picture("async", clients, epochs=8_000)
    assert len(text) < 400 * MOST_ROWS
    words = " ".join(str(element.text) for element in root.iter(f"{SVG}text"))
    assert f"the first {MOST_CLIENTS} of 60 clients" in words
    assert "cut off where the picture is full" in words and "new version (not shown)" in words
