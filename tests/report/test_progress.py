from __future__ import annotations

from dataclasses import replace

import pytest

from appfl_gc.protocol.measures import Timing
from appfl_gc.report.live_view import done_share
from appfl_gc.report.progress import RunProgress
from appfl_gc.runner.events import ClientChanged, ClientState, RoundFinished, RoundStarted
from appfl_gc.scheduler.base import Counts
from tests.report.sample_run import BUG, Clock, round_events, set_aside, started, trained, whole_run


def progress_after(*events: object, clock: Clock | None = None) -> RunProgress:
    progress = RunProgress(clock or Clock())
    for event in events:
        progress.apply(event)  # type: ignore[arg-type]
    return progress


def test_a_client_sums_bytes_and_updates_over_rounds() -> None:
    client = progress_after(*whole_run(rounds=3)).clients["A"]
    assert (client.updates, client.bytes_down, client.bytes_up) == (3, 3_000_000, 6_000_000)
    assert client.state is ClientState.ARRIVED


def test_mean_seconds_are_per_accepted_update() -> None:
    progress = progress_after(started(), trained("A", 1, queue=1.0), trained("A", 2, queue=3.0))
    assert progress.clients["A"].mean == Timing(2.0, 2.0, 0.5, 1.5)
    assert progress.clients["B"].mean is None


def test_time_left_needs_a_round_and_counts_the_current_one() -> None:
    clock = Clock()
    progress = progress_after(started(rounds=10), RoundStarted(1), clock=clock)
    assert progress.seconds_left() is None
    progress.apply(RoundFinished(1, 4.0))
    assert progress.seconds_left() == pytest.approx(36.0)
    progress.apply(RoundStarted(2))
    clock.now += 1.0
    assert progress.seconds_left() == pytest.approx(35.0)
    clock.now += 100.0
    assert progress.seconds_left() == pytest.approx(32.0)


def test_time_left_follows_the_last_rounds_not_the_slow_first_one() -> None:
    progress = progress_after(started(rounds=20), RoundFinished(1, 1000.0))
    for number in range(2, 12):
        progress.apply(RoundFinished(number, 2.0))
    assert progress.seconds_left() == pytest.approx(18.0)


def test_state_is_dated_when_it_changes_not_when_it_is_repeated() -> None:
    clock = Clock()
    progress = progress_after(started(), clock=clock)
    clock.now += 5
    progress.apply(ClientChanged("A", ClientState.WORKING, 1))
    clock.now += 5
    progress.apply(ClientChanged("A", ClientState.WORKING, 1))
    assert progress.clients["A"].since == pytest.approx(5.0)


def test_a_failure_is_kept_with_its_client_and_in_the_log() -> None:
    progress = progress_after(started(), *set_aside("B"))
    assert progress.clients["B"].error == BUG
    assert progress.clients["B"].failures == 1
    assert [(line.logged.client, line.logged.message) for line in progress.log] == [("B", BUG.message)]


def test_the_best_round_is_the_last_that_improved() -> None:
    progress = progress_after(started(), *round_events("AB", 1), RoundFinished(2, 1.0, {}, improved=False))
    assert (progress.best, progress.done) == (1, 2)


def test_where_updates_are_counted_every_fold_brings_the_run_forward_by_its_updates() -> None:
    progress = progress_after(replace(started(rounds=10), counts=Counts.UPDATES))
    for version, updates in ((1, 1), (2, 5)):
        progress.apply(RoundFinished(version, 8.0, {}, improved=version == 2, updates=updates))
    assert (progress.unit, progress.done, progress.best) == ("update", 5, 5)
    assert done_share(progress) == 0.5
    assert progress.seconds_left() == 5 * (8.0 / 1 + 8.0 / 4) / 2
