from __future__ import annotations

import contextlib
import io
import os
import pty
import threading

import pytest
from rich.console import Console

from appfl_gc.report.live import LiveDisplay
from appfl_gc.report.summary import Summary
from appfl_gc.runner.events import Logged
from tests.report.sample_run import round_events, started, whole_run

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def terminal(stream: io.StringIO) -> Console:
    return Console(
        file=stream, force_terminal=True, width=100, height=30, color_system="standard", highlight=False
    )


def test_it_paints_and_gives_the_cursor_back_when_the_run_ends() -> None:
    stream = io.StringIO()
    threads = set(threading.enumerate())
    console = terminal(stream)
    with LiveDisplay(console) as display:
        summary = Summary(console)
        for event in whole_run():
            display.on_event(event)
            summary.on_event(event)
    text = stream.getvalue()
    assert "Run run-1" in text
    assert text.count(HIDE) == text.count(SHOW) == 1
    assert text.index(SHOW) < text.index("Finished")
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive()


def test_nothing_is_painted_before_a_run_starts() -> None:
    stream = io.StringIO()
    with LiveDisplay(terminal(stream)) as display:
        display.on_event(Logged("early"))
    assert stream.getvalue() == ""


def test_an_error_in_the_run_gives_the_terminal_back() -> None:
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt), LiveDisplay(terminal(stream)) as display:
        display.on_event(started())
        raise KeyboardInterrupt
    assert stream.getvalue().rindex(SHOW) > stream.getvalue().rindex(HIDE)


def test_events_and_repaints_at_once_do_no_harm() -> None:
    names = [f"site-{index}" for index in range(40)]
    console = terminal(io.StringIO())
    errors: list[Exception] = []

    with LiveDisplay(console) as display:
        display.on_event(started(names))
        done = threading.Event()

        def repaint() -> None:
            try:
                while not done.is_set():
                    console.render_lines(display._paint())
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        painter = threading.Thread(target=repaint)
        painter.start()
        for number in range(1, 30):
            display.on_event(started([f"late-{number}"]))
            for event in round_events(names, number):
                display.on_event(event)
        done.set()
        painter.join()
    assert errors == []


def test_a_terminal_that_goes_away_does_not_end_the_run() -> None:
    reader, writer = pty.openpty()
    stream = os.fdopen(writer, "w")
    with LiveDisplay(Console(file=stream, force_terminal=True, width=80, height=24)) as display:
        display.on_event(started())
        os.close(reader)
    with contextlib.suppress(OSError):
        stream.close()
