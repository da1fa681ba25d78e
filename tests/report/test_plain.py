from __future__ import annotations

import io
import logging
import re

from appfl_gc.report.plain import PlainDisplay
from appfl_gc.runner.events import ClientChanged, ClientFailed, ClientState, Logged, PayloadMoving, RunEvent
from tests.report.sample_run import BUG, LOST, Clock, set_aside, started, updates_run, whole_run


def lines_of(*events: RunEvent, quiet: bool = False, level: int = logging.INFO) -> list[str]:
    stream = io.StringIO()
    with PlainDisplay(stream, quiet=quiet, level=level, clock=Clock()) as display:
        for event in events:
            display.on_event(event)
    return stream.getvalue().splitlines()


def test_every_line_has_the_time_of_run() -> None:
    clock, stream = Clock(), io.StringIO()
    display = PlainDisplay(stream, clock=clock)
    display.on_event(started())
    clock.now += 3725
    display.on_event(Logged("first\nsecond"))
    assert stream.getvalue().splitlines()[-2:] == ["[1:02:05] first", "[1:02:05] second"]


def test_a_run_tells_start_clients_rounds_and_time_left() -> None:
    lines = lines_of(*whole_run(rounds=2))
    text = "\n".join(lines)
    assert "Run run-1: 2 clients, 2 rounds, model of 1,199,882 parameters, 4.8 MB" in text
    assert "A is ready" in text
    assert (
        "Round 1: A trained 100 steps on 2000 samples: loss 0.2500, accuracy 90.00;"
        " queue 1.0 s, compute 2.0 s, transfer 0.5 s"
    ) in text
    assert (
        "Round 1 of 2 done in 4.0 s: loss 0.2500, accuracy 90.00, the best so far; about 4.0 s left" in text
    )
    assert lines[-1].endswith("Round 2 of 2 done in 4.0 s: loss 0.2500, accuracy 90.00, the best so far")


def test_updates_are_counted_where_there_are_no_rounds() -> None:
    text = "\n".join(lines_of(*updates_run()))
    assert "Run run-1: 2 clients, 4 updates, model of" in text
    assert "Task 2: A trained 100 steps" in text
    assert "Update 3 of 4 done in 2.0 s: loss 0.2500; about 2.0 s left" in text
    assert "Round" not in text


def test_many_clients_are_counted_and_their_failures_named() -> None:
    names = [f"site-{index}" for index in range(200)]
    text = "\n".join(lines_of(*whole_run(names, rounds=1), *set_aside("site-7")))
    assert "All 200 clients are ready" in text
    assert "trained" not in text
    assert "site-7 failed" in text
    assert len(text.splitlines()) < 15


def test_a_failure_shows_message_frames_hint_and_whether_it_is_tried_again() -> None:
    text = "\n".join(lines_of(started(), *set_aside("B"), ClientFailed("A", 2, LOST, final=False)))
    for part in (BUG.message, "at dataset.py:12 in get_data", "Hint: Check the path.", "B is set aside"):
        assert part in text
    assert text.count(BUG.message) == 1
    assert BUG.trace not in text
    assert "Round 2: A failed and may be tried again: The worker ended" in text


def test_no_control_character_reaches_the_stream() -> None:
    hostile = "a\x1b[2Jb\rc\x07\u202ed\x9b31m"
    stream = io.StringIO()
    display = PlainDisplay(stream, clock=Clock())
    for event in (started([hostile]), Logged(hostile, client=hostile, level=30), *set_aside(hostile)):
        display.on_event(event)
    assert re.search(r"[^\n\x20-\x7e\N{REPLACEMENT CHARACTER}]", stream.getvalue()) is None


def test_quiet_leaves_warnings_and_failures_only() -> None:
    events = [
        *whole_run(),
        Logged("info"),
        Logged("careful", 30),
        Logged("site careful", 30, "A"),
        *set_aside("B"),
    ]
    text = "\n".join(lines_of(*events, quiet=True))
    assert "warning: careful" in text and "A: warning: site careful" in text and "B failed" in text
    assert "info" not in text and "Round 1 of" not in text


def test_a_sites_own_lines_show_with_debug_only() -> None:
    line = Logged("epoch 1", client="A")
    assert lines_of(line) == []
    assert lines_of(line, level=logging.DEBUG) == ["[0:00:00] A: epoch 1"]


def test_readiness_is_told_once_and_a_retry_each_time() -> None:
    ready, retry = ClientChanged("A", ClientState.READY), ClientChanged("A", ClientState.RETRYING, 1, "lost")
    lines = lines_of(started(), ready, retry, ready, retry)
    assert sum("is ready" in line for line in lines) == 1
    assert sum("A is tried again: lost" in line for line in lines) == 2


def test_a_payload_that_takes_its_time_is_told_of_now_and_then() -> None:
    clock, stream = Clock(), io.StringIO()
    display = PlainDisplay(stream, clock=clock)
    for second in range(25):
        clock.now += 1
        display.on_event(PayloadMoving("", "sending the model", second * 10**8, 4 * 10**9))
    lines = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    assert lines == [
        "sending the model: 0 B of 4.0 GB (0%)",
        "sending the model: 1.0 GB of 4.0 GB (25%)",
        "sending the model: 2.0 GB of 4.0 GB (50%)",
    ]
