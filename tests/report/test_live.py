from __future__ import annotations

import contextlib
import io
import os
import pty
import threading

import pytest
from rich.console import Console

from appfl_gc.report import live as live_module
from appfl_gc.report.live import LiveDisplay
from appfl_gc.report.progress import RunProgress
from appfl_gc.report.summary import Summary
from appfl_gc.runner.events import Logged, RoundStarted
from tests.report.sample_run import started, whole_run

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


def test_an_event_waits_while_the_display_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing, go_on = threading.Event(), threading.Event()
    rounds: list[int] = []

    def slow_view(run: RunProgress, width: int, height: int) -> str:
        rounds.append(run.round)
        drawing.set()
        go_on.wait(10)
        rounds.append(run.round)
        return ""

    monkeypatch.setattr(live_module, "view", slow_view)
    display = LiveDisplay(terminal(io.StringIO()))
    painter = threading.Thread(target=display._paint)
    teller = threading.Thread(target=display.on_event, args=(RoundStarted(7),))
    painter.start()
    assert drawing.wait(10)
    teller.start()
    teller.join(0.2)
    waited = teller.is_alive()
    go_on.set()
    for thread in (painter, teller):
        thread.join(10)
    assert waited and rounds == [0, 0]


def test_a_terminal_that_goes_away_does_not_end_the_run() -> None:
    reader, writer = pty.openpty()
    stream = os.fdopen(writer, "w")
    with LiveDisplay(Console(file=stream, force_terminal=True, width=80, height=24)) as display:
        display.on_event(started())
        os.close(reader)
    with contextlib.suppress(OSError):
        stream.close()
