"""The server of a synchronous run is killed anywhere; gone on with, the run ends as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appfl_gc.runner.resume.reading import read_past
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.timers import Timers
from tests.faults.nursery import Break, Nursery, Served
from tests.faults.proof import AtDeath, Bench, check_as_undisturbed, check_replays, counted
from tests.faults.table import record

GLOBAL_MODEL = "appfl_gc.runner.global_model:GlobalModel"
DIRECTORY = "appfl_gc.runner.run_directory:RunDirectory"


@pytest.fixture(scope="module")
def bench(nursery: Nursery, trainings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Five rounds of three clients in one worker."""
    return Bench.make(nursery, trainings, counted(tmp_path_factory.mktemp("one"), trainings))


@pytest.fixture(scope="module")
def by_files(nursery: Nursery, trainings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The same with two workers, and nothing in messages that could go by files."""
    federation = counted(
        tmp_path_factory.mktemp("files"),
        trainings,
        control_configs={"slots": 2, "inline_limit_bytes": 0},
        fault_tolerance_configs={"retry_seconds": 0.05},
    )
    return Bench.make(nursery, trainings, federation)


@pytest.fixture(scope="module")
def remembering(nursery: Nursery, trainings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """ADMM: its trainers remember their dual variables from one round to the next, and its server keeps them too."""
    federation = counted(
        tmp_path_factory.mktemp("admm"),
        trainings,
        base="iiadmm.IIADMMTrainer",
        aggregator="IIADMMAggregator",
        aggregator_kwargs={},
    )
    federation.train |= {"init_penalty": 1.0, "init_proximity": 9.0, "do_validation": False}
    return Bench.make(nursery, trainings, federation)


@pytest.fixture(scope="module")
def failing(nursery: Nursery, trainings: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A worker ends in round 2, and its call is sent again."""
    federation = counted(tmp_path_factory.mktemp("failing"), trainings, dies="Client2 2")
    return Bench.make(nursery, trainings, federation)


@dataclass
class Lost:
    """Trainings that were begun more than once."""

    times: int = 0
    trainings: int = 0

    def __str__(self) -> str:
        return f"trainings begun again: {self.trainings}" if self.trainings else "nothing"


def resumed(bench: Bench, served: Served, lost: Lost, *breaks: Break) -> Served:
    """Go on with a run whose server died; the run must end as if it had not."""
    assert served.killed or served.outcome == "interrupted", served
    death = AtDeath.of(bench)
    result = bench.nursery.resume(bench.job, *breaks)
    assert result.outcome == "finished", result
    check_as_undisturbed(bench, death)
    lost.times += 1
    lost.trainings += bench.begun_again()
    return result


def broken_at(bench: Bench, name: str, broken: Break, lost: Lost) -> None:
    """Run a new job whose server dies by ``broken``, and go on with it."""
    bench = bench.fresh(name)
    resumed(bench, bench.nursery.run(bench.job, broken), lost)


def enumerate_records(bench: Bench, how: str, lost: Lost, first: int = 3, step: int = 1) -> None:
    """A job for every ``step``-th record, from the one from which there is something to go on with."""
    failures = []
    for number in range(first, bench.records + 1, step):
        try:
            broken_at(bench, f"{how}-{number}", Break(how, (number,)), lost)
        except AssertionError as error:
            failures.append(f"{how} {number} ({bench.kinds[number - 1]}): {str(error)[:2000]}")
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize(
    ("kind", "number"), [("dispatch", 3), ("arrived", 3), ("step", 5), ("aggregated", 3), ("round", 3)]
)
def test_killed_after_a_record_of_each_kind(bench: Bench, kind: str, number: int) -> None:
    broken_at(bench, f"kind-{kind}", Break("signal_at", (kind, number)), Lost())


def test_killed_while_sites_remember_something(remembering: Bench) -> None:
    broken_at(remembering, "remembering", Break("signal_at", ("step", 9)), Lost())


@pytest.mark.chaos
def test_killed_at_every_third_record_while_sites_remember_something(remembering: Bench) -> None:
    lost = Lost()
    enumerate_records(remembering, "kill_after_record", lost, step=3)
    record("server SIGKILLed after every third record, ADMM", lost.times, "same bits", str(lost))


@pytest.mark.parametrize(
    ("kind", "number"), [("failed", 1), ("policy Failed", 1), ("policy Sent", 10), ("retry", 1)]
)
def test_killed_between_a_failure_and_the_next_attempt(failing: Bench, kind: str, number: int) -> None:
    broken_at(failing, f"failure-{kind.replace(' ', '-')}", Break("signal_at", (kind, number)), Lost())


@pytest.mark.chaos
def test_killed_at_every_record_of_a_job_whose_worker_ends_too(failing: Bench) -> None:
    lost = Lost()
    enumerate_records(failing, "kill_after_record", lost)
    fault = "server SIGKILLed after every journal record, of a job whose worker ends once"
    record(fault, lost.times, "same bits", str(lost))


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["kill_after_record", "kill_before_record"])
def test_killed_at_every_record(bench: Bench, how: str) -> None:
    lost = Lost()
    enumerate_records(bench, how, lost)
    place = "after" if how == "kill_after_record" else "before"
    record(f"server SIGKILLed {place} every journal record, 1 worker", lost.times, "same bits", str(lost))


@pytest.mark.chaos
def test_killed_at_every_record_with_two_workers_and_payloads_in_files(by_files: Bench) -> None:
    lost = Lost()
    enumerate_records(by_files, "kill_after_record", lost)
    record(
        "server SIGKILLed after every journal record, 2 workers, payloads in files",
        lost.times,
        "same bits",
        str(lost),
    )


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["dispatch", "arrived", "aggregated"])
def test_killed_with_workers_of_the_engine(bench: Bench, kind: str) -> None:
    lost = Lost()
    spawned = replace(bench, job=replace(bench.job, real_workers=True))
    broken_at(spawned, f"spawned-{kind}", Break("signal_at", (kind, 4)), lost)
    record("server SIGKILLed, spawned workers", 1, "same bits", str(lost))


@pytest.mark.chaos
def test_killed_again_at_records_of_the_one_that_goes_on(bench: Bench) -> None:
    lost = Lost()
    for first, second in [
        (12, 1),
        (20, 2),
        (40, 3),
        (40, 5),
        (41, 8),
        (47, 12),
        (60, 20),
        (75, 30),
        (100, 2),
    ]:
        twice = bench.fresh(f"twice-{first}-{second}")
        assert twice.nursery.run(twice.job, Break("kill_after_record", (first,))).killed
        deaths = [AtDeath.of(twice)]
        assert twice.nursery.resume(twice.job, Break("kill_after_record", (second,))).killed
        deaths.append(AtDeath.of(twice))
        assert twice.nursery.resume(twice.job).outcome == "finished"
        check_as_undisturbed(twice, *deaths)
        lost.times += 2
        lost.trainings += twice.begun_again()
    record("server SIGKILLed, and the one that went on SIGKILLed too", lost.times, "same bits", str(lost))


def test_killed_in_every_server_that_goes_on(bench: Bench) -> None:
    bench = bench.fresh("again-and-again")
    assert bench.nursery.run(bench.job, Break("signal_at", ("arrived", 2))).killed
    deaths = [AtDeath.of(bench)]
    for _ in range(4):
        assert bench.nursery.resume(bench.job, Break("signal_at", ("aggregated", 1))).killed
        deaths.append(AtDeath.of(bench))
    assert bench.nursery.resume(bench.job).outcome == "finished"
    check_as_undisturbed(bench, *deaths)


def test_killed_before_there_is_anything_to_go_on_with(bench: Bench) -> None:
    bench = bench.fresh("too-early")
    assert bench.nursery.run(bench.job, Break("kill_before_record", (2,))).killed
    result = bench.nursery.resume(bench.job)
    assert result.error_class == "user_error"
    assert "ended before it had begun" in result.error


def test_killed_before_anybody_was_greeted(bench: Bench) -> None:
    bench = bench.fresh("early")
    assert bench.nursery.run(bench.job, Break("kill_after_record", (2,))).killed
    assert bench.nursery.resume(bench.job).outcome == "finished"
    check_as_undisturbed(bench)


PLACES = {
    "an update has its file, its record is not written": ("kill_after", "appfl_gc.payload.arena:give_name"),
    "the new model is written, its record is not": ("kill_after", f"{GLOBAL_MODEL}.advance"),
    "the newest model is about to be kept": ("kill_before", f"{DIRECTORY}.keep_model"),
    "the newest model was just kept": ("kill_after", f"{DIRECTORY}.keep_model"),
    "a row was written, its record was not": ("kill_after", "appfl_gc.runner.metrics:MetricsFile.write"),
}
OFTEN = list(PLACES)[:2]
"""Those that are tried whenever anything is tested."""


@pytest.mark.parametrize(
    "place", [place if place in OFTEN else pytest.param(place, marks=pytest.mark.chaos) for place in PLACES]
)
def test_killed_between_a_deed_and_its_record(bench: Bench, place: str) -> None:
    lost = Lost()
    how, function = PLACES[place]
    broken_at(bench, place.replace(" ", "-"), Break(how, (function, 5)), lost)
    record("server SIGKILLed between a deed and its record", lost.times, "same bits", str(lost))


def test_killed_while_an_update_is_being_kept(bench: Bench) -> None:
    broken_at(bench, "keeping", Break("kill_within_copy", (5,)), Lost())


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.chaos)], ids=lambda one: one.name
)
def test_interrupted_and_gone_on_with(bench: Bench, number: signal.Signals) -> None:
    lost = Lost()
    bench = bench.fresh(number.name)
    served = bench.nursery.run(bench.job, Break("signal_at", ("dispatch", 8, int(number))))
    assert (served.status, served.outcome) == (0, "interrupted")
    resumed(bench, served, lost)
    record(f"{number.name} to the server", lost.times, "interrupted, then same bits", str(lost))


def test_killed_at_the_end_after_an_interrupt_the_last_model_is_the_final_one(bench: Bench) -> None:
    bench = bench.fresh("interrupt-and-end")
    assert (
        bench.nursery.run(bench.job, Break("signal_at", ("round", 2, int(signal.SIGINT)))).outcome
        == "interrupted"
    )
    deaths = [AtDeath.of(bench)]
    # The rounds 3, 4 and 5 are its own; what the scheduler answers to the last version is Finish.
    assert bench.nursery.resume(bench.job, Break("signal_at", ("step Aggregated", 3))).killed
    deaths.append(AtDeath.of(bench))
    result = bench.nursery.resume(bench.job)
    assert (result.outcome, result.rounds) == ("finished", bench.federation.rounds)
    check_as_undisturbed(bench, *deaths)


def test_a_run_that_is_done_is_told_of_again(bench: Bench) -> None:
    bench = bench.fresh("done")
    assert bench.nursery.run(bench.job, Break("signal_at", ("finished", 1))).killed
    for _ in range(2):
        result = bench.nursery.resume(bench.job)
        assert (result.outcome, result.rounds) == ("finished", bench.federation.rounds)
        check_as_undisturbed(bench)


def told(directory: RunDirectory) -> dict[str, object]:
    """Everything that the journal of ``directory`` says."""
    past = read_past(directory)
    return replace(past, timers=Timers()).__dict__ | {"timers": list(past.timers.all())}


def test_a_torn_last_record_is_as_if_it_had_not_been_written(bench: Bench) -> None:
    bench = bench.fresh("torn")
    assert bench.nursery.run(bench.job, Break("signal_at", ("arrived", 8))).killed
    directory = RunDirectory(bench.run_dir)
    whole = directory.journal.read_bytes()
    begins = whole.rfind(b"\n", 0, -1) + 1
    directory.journal.write_bytes(whole[:begins])
    without = told(directory)
    for length in range(begins + 1, len(whole)):
        directory.journal.write_bytes(whole[:length])
        assert told(directory) == without
    death = AtDeath.of(bench)
    assert bench.nursery.resume(bench.job).outcome == "finished"
    check_as_undisturbed(bench, death)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, pytest.param(Path.unlink, marks=pytest.mark.chaos)])
def test_an_update_that_did_not_survive_is_asked_for_again(
    bench: Bench, harm: Callable[[Path], None]
) -> None:
    bench = bench.fresh(f"harmed-{harm.__name__}")
    assert bench.nursery.run(bench.job, Break("signal_at", ("arrived", 8))).killed
    # The record of the third update is not there; its file may be.
    kept, *_ = sorted((bench.run_dir / "payloads").glob("update-*"))
    harm(kept)
    death = AtDeath.of(bench).without_files()
    assert bench.nursery.resume(bench.job).outcome == "finished"
    check_as_undisturbed(bench, death)
    record("an update that the server kept is gone or damaged", 1, "same bits", "nothing: the site has it")


def test_payloads_that_are_purged_from_their_store_are_made_again(by_files: Bench) -> None:
    bench = by_files.fresh("purged")
    assert bench.nursery.run(bench.job, Break("remove_payloads_at", ("dispatch", 5))).outcome == "finished"
    assert (bench.run_dir / "model.safetensors").read_bytes() == bench.bits
    check_replays(bench)


@pytest.mark.chaos
def test_power_is_lost_at_every_third_record(bench: Bench) -> None:
    lost = Lost()
    for number in range(6, bench.records, 3):
        dark = bench.fresh(f"dark-{number}")
        assert dark.nursery.run(dark.job, Break("lose_power_after_record", (number,))).killed
        death = AtDeath.of(dark).without_files()
        result = dark.nursery.resume(dark.job)
        assert result.outcome == "finished", (number, result)
        check_as_undisturbed(dark, death)
        lost.times += 1
        lost.trainings += dark.begun_again()
    record("power lost: what was not synced is gone", lost.times, "same bits", str(lost))
