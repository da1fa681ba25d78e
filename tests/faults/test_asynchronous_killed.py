"""The server of a run without rounds is killed: gone on with, it does what it had decided and folds nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.runner.journal import read_journal
from tests.faults.nursery import Break, Nursery
from tests.faults.proof import AtDeath, Bench, check_nothing_repeated, check_replays, counted
from tests.faults.table import record
from tests.runner.test_schedules import SCHEDULES

ROUNDS = {"queue"}
"""Schedules of which ``num_global_epochs`` counts rounds."""


@pytest.fixture(scope="module", params=["async", "buffered", "compass", "queue"])
def bench(
    request: pytest.FixtureRequest,
    nursery: Nursery,
    trainings: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    """Three clients in two workers, under each schedule."""
    server = SCHEDULES[request.param] | {"control_configs": {"slots": 2}}
    federation = counted(tmp_path_factory.mktemp(request.param), trainings, **server)
    return Bench.make(nursery, trainings, federation, name=request.param)


def kill_and_go_on(bench: Bench, *breaks: Break, files_lost: bool = False) -> int:
    """Kill one server after the other, the last goes on; how many trainings were begun again."""
    deaths: list[AtDeath] = []
    for number, one in enumerate(breaks):
        served = bench.nursery.resume(bench.job, one) if number else bench.nursery.run(bench.job, one)
        if not served.killed:  # how many records there are depends on who is first
            assert served.outcome == "finished", served
            break
        death = AtDeath.of(bench)
        deaths.append(death.without_files() if files_lost else death)
    result = bench.nursery.resume(bench.job)
    assert result.outcome == "finished", result
    check_nothing_repeated(bench, *deaths)
    check_replays(bench)
    epochs = SCHEDULES[bench.job.name]["num_global_epochs"]
    folded = [one for one in read_journal(bench.run_dir / "journal.jsonl") if one.kind == "aggregated"]
    if bench.job.name in ROUNDS:
        assert len(folded) == result.rounds == epochs
    else:
        assert sum(len(one.fields["updates"]) for one in folded) == epochs
    return bench.begun_again()


def test_killed_twice_on_the_way(bench: Bench) -> None:
    breaks = Break("signal_at", ("arrived", 2)), Break("signal_at", ("aggregated", 1))
    kill_and_go_on(bench.fresh("twice"), *breaks)


@pytest.mark.chaos
def test_killed_at_a_sample_of_records(bench: Bench) -> None:
    times = lost = 0
    for number in range(4, bench.records, 6):
        lost += kill_and_go_on(bench.fresh(f"after-{number}"), Break("kill_after_record", (number,)))
        times += 1
    fault = f"server SIGKILLed after every sixth journal record, schedule {bench.job.name}"
    again = f"trainings begun again: {lost}" if lost else "nothing"
    record(fault, times, "same actions on replay, nothing used twice", again)


@pytest.mark.chaos
def test_power_is_lost_at_a_sample_of_records(bench: Bench) -> None:
    times = lost = 0
    for number in range(5, bench.records, 6):
        dark = Break("lose_power_after_record", (number,))
        lost += kill_and_go_on(bench.fresh(f"dark-{number}"), dark, files_lost=True)
        times += 1
    fault = f"power lost after every sixth journal record, schedule {bench.job.name}"
    again = f"trainings begun again: {lost}" if lost else "nothing"
    record(fault, times, "same actions on replay, nothing used twice", again)
