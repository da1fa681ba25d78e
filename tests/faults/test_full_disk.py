"""The disk under a run is full, or can't be written: the run says so, nothing of it is spoilt, and it can go on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.nursery import Break, Nursery
from tests.faults.proof import AtDeath, Bench, check_as_undisturbed, counted
from tests.faults.table import record

ROOM = 6 << 20


@pytest.fixture(scope="module")
def bench(trainings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Runs on a small file system of their own."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this user may make no mount namespace")
    directory = tmp_path_factory.mktemp("disk")
    disk, home = directory / "disk", directory / "home"
    disk.mkdir()
    home.mkdir()
    environment = {"HOME": str(home), "APPFL_GC_SITE_POLICY": ""}
    with Nursery(directory, environment, tmpfs=disk, size=ROOM) as nursery:
        yield Bench.make(nursery, trainings, counted(directory / "project", trainings), runs=disk / "runs")


def fill_and_go_on(bench: Bench, kind: str, number: int) -> None:
    disk = bench.runs.parent
    bench = bench.fresh(f"full-at-{kind}-{number}")
    served = bench.nursery.run(bench.job, Break("fill_disk_at", (kind, number, str(disk))))
    try:
        assert served.error_class == "storage", served
        assert "No space left on device" in served.error
        # Without room nothing can be done, and nothing gets worse.
        again = bench.nursery.resume(bench.job)
        assert again.error_class == "storage", again
        death = AtDeath.of(bench)
    finally:
        bench.nursery.shell(f"rm -f {disk}/filler")
    result = bench.nursery.resume(bench.job)
    assert result.outcome == "finished", result
    check_as_undisturbed(bench, death)


def test_a_disk_that_is_full_when_an_update_has_arrived(bench: Bench) -> None:
    fill_and_go_on(bench, "arrived", 5)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["hello", "dispatch", "policy", "step", "aggregated", "round"])
def test_a_disk_that_is_full_at_other_times(bench: Bench, kind: str) -> None:
    fill_and_go_on(bench, kind, 3)
    record("disk full under the run directory", 1, "ends with a storage error; then same bits", "nothing")


def test_a_directory_that_cannot_be_written(bench: Bench) -> None:
    disk = bench.runs.parent
    bench = bench.fresh("read-only")
    assert bench.nursery.run(bench.job, Break("signal_at", ("arrived", 5))).killed
    death = AtDeath.of(bench)
    # The dead server's workers end a moment after it, with files open.
    bench.nursery.shell(
        f"for i in $(seq 100); do mount -o remount,ro {disk} && exit; sleep 0.1; done; exit 1"
    )
    try:
        served = bench.nursery.resume(bench.job)
        assert served.error_class == "storage", served
        assert "Read-only file system" in served.error
    finally:
        bench.nursery.shell(f"mount -o remount,rw {disk}")
    assert bench.nursery.resume(bench.job).outcome == "finished"
    check_as_undisturbed(bench, death)
