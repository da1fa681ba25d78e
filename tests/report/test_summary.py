from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from appfl_gc.report.summary import CLIENTS_LISTED, Summary
from appfl_gc.runner.events import Outcome, RunEvent
from tests.report.sample_run import (
    BUG,
    RUN_DIR,
    Clock,
    finished,
    round_events,
    set_aside,
    started,
    updates_run,
    whole_run,
)


def text_of(*events: RunEvent, terminal: bool = False, width: int = 80) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=terminal, markup=False, emoji=False, highlight=False
    )
    summary = Summary(console, clock=Clock())
    for event in events:
        summary.on_event(event)
    return stream.getvalue()


def test_nothing_is_printed_before_the_end() -> None:
    assert text_of(*whole_run()[:-1]) == ""


def test_it_says_how_it_ended_and_where_everything_is() -> None:
    text = text_of(*whole_run())
    assert "Finished after 3 of 3 rounds in 1 min 05 s" in text
    assert "val_accuracy 93.10 (best in round 3)" in text
    for name in ("model.safetensors", "metrics.jsonl", "server.log"):
        assert str(RUN_DIR / name) in text
    assert "appfl-gc resume" not in text


def test_it_counts_what_the_run_counts() -> None:
    text = text_of(*updates_run()[:-2], finished(Outcome.INTERRUPTED, 3))
    assert "after 3 of 4 updates" in text
    assert "(best in update 1)" in text


def test_each_client_has_its_updates_means_and_last_accuracy() -> None:
    text = text_of(*whole_run())
    assert re.search(r"A +3 +1\.0 s +2\.0 s +0\.5 s +0\.2500 +90\.00 +3\.0 MB +6\.0 MB", text)


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.FAILED])
def test_it_says_how_to_go_on(outcome: Outcome) -> None:
    text = text_of(started(), *round_events("AB", 1), finished(outcome, 1))
    assert f"appfl-gc resume {RUN_DIR}" in text


def test_where_nothing_was_computed_it_does_not_offer_to_go_on() -> None:
    text = text_of(started(), finished(Outcome.FAILED, 0, BUG, model=False))
    assert "Failed after 0 of 3 rounds" in text
    assert "appfl-gc resume" not in text
    assert "The same command starts it again" in text


def test_clients_set_aside_are_named_with_the_reason() -> None:
    text = text_of(started(), *set_aside("B"), *round_events("A", 1), finished(Outcome.PARTIAL))
    assert "Finished without some clients" in text
    assert f"B was set aside: {BUG.message}" in text


def test_of_many_clients_those_in_trouble_come_first_and_the_rest_is_counted() -> None:
    names = [f"site-{index:03d}" for index in range(200)]
    events = whole_run(names, rounds=1)
    text = text_of(*events[:-1], *set_aside("site-150"), events[-1])
    rows = re.findall(r"^ +(site-\d+) ", text, re.M)
    assert rows[0] == "site-150"
    assert len(rows) == CLIENTS_LISTED
    assert f"{200 - CLIENTS_LISTED} more clients are in metrics.jsonl." in text


def test_a_narrow_terminal_gets_fewer_columns_not_cut_ones() -> None:
    text = text_of(*whole_run(["Client1"]), terminal=True, width=60)
    head = next(line for line in text.splitlines() if "updates" in line)
    assert "accuracy" in head and "down" not in head
    row = next(line for line in text.splitlines() if "Client1" in line)
    assert "90.00" in row and "…" not in row


def test_paths_and_markup_are_printed_as_they_are() -> None:
    name = "[red]x[/red] :smile:"
    text = text_of(*whole_run([name]), width=30)
    assert name in text
    assert str(RUN_DIR / "model.safetensors") in text


def test_a_pipe_gets_no_control_characters() -> None:
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text_of(*whole_run())) is None
