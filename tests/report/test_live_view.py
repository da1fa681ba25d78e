from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from appfl_gc.report.live_view import done_share, view
from appfl_gc.report.progress import RunProgress
from appfl_gc.runner.events import (
    ClientChanged,
    ClientState,
    Logged,
    PayloadMoving,
    RoundStarted,
    RunEvent,
    TaskProgressed,
)
from tests.report.sample_run import BUG, Clock, round_events, set_aside, started, trained, updates_run


def progress_of(*events: RunEvent, clock: Clock | None = None) -> RunProgress:
    progress = RunProgress(clock or Clock())
    for event in events:
        progress.apply(event)
    return progress


def drawn(progress: RunProgress, width: int = 120, height: int = 30) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, height=height, highlight=False).print(view(progress, width, height))
    return stream.getvalue()


def many(count: int, rounds: int = 2) -> RunProgress:
    names = [f"site-{index:03d}" for index in range(count)]
    events: list[RunEvent] = [started(names, 5)]
    for number in range(1, rounds + 1):
        events += round_events(names, number)
    events += [Logged(f"line {index}") for index in range(30)]
    return progress_of(*events)


def test_it_counts_updates_where_there_are_no_rounds() -> None:
    text = drawn(progress_of(*updates_run()[:3]))
    for part in ("Update 1 of 4", "25%", "about 6.0 s left", "After update 1 (best: update 1):", " task "):
        assert part in text
    assert "round" not in text


def test_it_shows_run_round_clients_and_log() -> None:
    clock = Clock()
    progress = progress_of(
        started(rounds=4), *round_events("AB", 1), RoundStarted(2), Logged("hello", client="B"), clock=clock
    )
    progress.apply(ClientChanged("B", ClientState.WORKING, 2))
    clock.now += 75
    text = drawn(progress)
    for part in (
        "Run run-1",
        "0:01:15",
        "/data/output/run-1",
        "1,199,882 parameters, 4.8 MB",
        "Round 2 of 4",
    ):
        assert part in text
    for part in (
        "25%",
        "about 8.0 s left",
        "After round 1 (best: round 1):   val_loss 0.2500",
        "working 1m15s",
    ):
        assert part in text
    row = next(line for line in text.splitlines() if line.startswith("A "))
    assert " ".join(row.split()) == "A ● arrived 1 100 0.2500 90.00 1.0 MB 2.0 MB 1.0 s 2.0 s 0.5 s"
    assert "B: hello" in text


def test_how_far_a_site_is_shows_while_it_works() -> None:
    progress = progress_of(
        started(), ClientChanged("A", ClientState.WORKING, 1), TaskProgressed("A", 1, 31, 50)
    )
    assert "working 62%" in drawn(progress)
    progress.apply(ClientChanged("A", ClientState.ARRIVED, 1))
    assert "%" not in next(line for line in drawn(progress).splitlines() if line.startswith("A "))


def test_a_run_that_goes_on_begins_where_it_was() -> None:
    progress = progress_of(replace(started(rounds=4), rounds_done=3, updates_done=6))
    assert done_share(progress) == 0.75
    assert "Round 3 of 4" in drawn(progress)


def test_a_failure_is_in_the_log_beneath() -> None:
    text = drawn(progress_of(started(), *set_aside("B")))
    assert "B: " + BUG.message in text
    assert "set aside" in text


def test_the_bar_counts_updates_within_the_round() -> None:
    progress = progress_of(started(rounds=2), RoundStarted(1))
    assert done_share(progress) == 0.0
    progress.apply(trained("A", 1))
    assert done_share(progress) == pytest.approx(0.25)
    for event in round_events("AB", 1):
        progress.apply(event)
    assert done_share(progress) == pytest.approx(0.5)
    progress.apply(RoundStarted(2))
    assert done_share(progress) == pytest.approx(0.5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(20, 200), st.integers(1, 60))
def test_it_never_outgrows_the_terminal(count: int, width: int, height: int) -> None:
    lines = drawn(many(count, rounds=1), width, height).splitlines()
    assert len(lines) <= max(height - 1, 7)
    assert all(len(line) <= width for line in lines)


def test_with_200_clients_states_are_counted_and_trouble_comes_first() -> None:
    progress = many(200)
    for event in set_aside("site-150"):
        progress.apply(event)
    progress.apply(ClientChanged("site-120", ClientState.WORKING, 3))
    lines = drawn(progress, height=30).splitlines()
    counts = next(line for line in lines if line.startswith("200 clients:"))
    assert "1 working" in counts and "198 arrived" in counts and "1 set aside" in counts
    rows = [line.split()[0] for line in lines if line.startswith("site-")]
    assert rows[:2] == ["site-150", "site-120"]
    assert f"and {200 - len(rows)} more clients" in lines


def test_a_narrow_terminal_keeps_state_and_accuracy() -> None:
    head = next(line for line in drawn(many(3), width=60).splitlines() if line.startswith("client"))
    assert head.split() == ["client", "state", "round", "loss", "accuracy"]


def test_markup_and_emoji_codes_of_sites_are_not_interpreted() -> None:
    text = drawn(progress_of(started(["[b]x[/b]"]), Logged("[red]a[/x] :smile:\nnext", client="[i]")))
    assert "[b]x[/b]" in text
    assert "[i]: [red]a[/x] :smile: next" in text


def test_a_payload_on_its_way_is_shown_while_it_moves() -> None:
    clock = Clock()
    progress = progress_of(
        started(), PayloadMoving("B", "receiving its update", 10**9, 4 * 10**9), clock=clock
    )
    assert "B: receiving its update: 1.0 GB of 4.0 GB (25%)" in drawn(progress)
    clock.now += 10
    assert "receiving" not in drawn(progress)
