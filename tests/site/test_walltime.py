"""How long the job goes on: told by Slurm, asked of PBS, or configured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appfl_gc.site.process import seconds_of_this_process
from appfl_gc.site.walltime import must_be_asked, seconds_left

QSTAT = """\
Job Id: 4711.polaris-pbs-01
    Job_Name = parsl.block-0
    Job_Owner = someone@polaris-login-02
    Error_Path = polaris-login-02:/home/someone/a/very/long/name/of/a/file/which/i
\tResource_List.walltime = 99:00:00
{used}    job_state = R
    queue = small
    Resource_List.ncpus = 64
    Resource_List.walltime = {limit}
{start}    Variable_List = PBS_O_HOME=/home/someone,PBS_O_PATH=/usr/bin:/bin,
\tPBS_O_WORKDIR=/home/someone/Resource_List.walltime = 99:00:00,
\tPBS_O_QUEUE=small
    comment = Job run
"""


class Pbs:
    """A directory with a ``qstat`` of ours."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environ = {"PBS_JOBID": "4711.polaris-pbs-01", "PATH": f"{directory}:/usr/bin:/bin"}

    def says(self, limit: str, used: str = "", start: str = "", code: int = 0) -> None:
        text = QSTAT.format(
            limit=limit,
            used=f"    resources_used.walltime = {used}\n" if used else "",
            start=f"    stime = {start}\n" if start else "",
        )
        self.directory.joinpath("answer").write_text(text)
        self.runs(
            f'[ "$1 $2" = "-f 4711.polaris-pbs-01" ] || exit 9\ncat {self.directory}/answer\nexit {code}'
        )

    def runs(self, script: str) -> None:
        path = self.directory / "qstat"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def pbs(tmp_path: Path) -> Pbs:
    return Pbs(tmp_path)


def test_slurm_tells_the_end() -> None:
    environ = {"SLURM_JOB_END_TIME": str(int(time.time()) + 1000), "PBS_JOBID": "1"}
    left = seconds_left(50.0, environ)
    assert left is not None and 990 < left <= 1000
    assert not must_be_asked(environ)


@pytest.mark.parametrize("told", ["", "soon", "-5", "1e12"])
def test_what_slurm_can_not_mean_is_not_believed(told: str) -> None:
    assert seconds_left(None, {"SLURM_JOB_END_TIME": told}) is None


def test_an_end_that_slurm_put_in_the_past_is_not_believed() -> None:
    past = str(int(time.time()) - 10)
    assert seconds_left(None, {"SLURM_JOB_END_TIME": past}) is None


@pytest.mark.parametrize(
    ("limit", "used", "seconds"),
    [
        ("100:00:00", "99:59:00", (360_000, 359_940)),
        ("72:00:00", "01:00:01", (259_200, 3601)),
        ("2:00:00:00", "30:00", (172_800, 1800)),
        ("360000", "240000", (360_000, 240_000)),
    ],
)
def test_pbs_is_asked(pbs: Pbs, limit: str, used: str, seconds: tuple[float, float]) -> None:
    assert must_be_asked(pbs.environ)
    pbs.says(limit, used)
    age = seconds_of_this_process()
    assert age is not None
    assert seconds_left(None, pbs.environ) == pytest.approx(seconds[0] - max(seconds[1], age), abs=5)


def test_a_worker_has_used_what_pbs_has_not_measured_yet(pbs: Pbs) -> None:
    age = seconds_of_this_process()
    assert age is not None
    pbs.says("100:00:00", "00:00:00")
    left = seconds_left(None, pbs.environ)
    assert left is not None and left <= 360_000 - age


def test_a_job_that_pbs_has_not_measured_counts_from_its_start(pbs: Pbs) -> None:
    begun = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(time.time() - 3000))
    pbs.says("100:00:00", start=begun)
    assert seconds_left(None, pbs.environ) == pytest.approx(357_000, abs=10)


def test_a_start_by_another_clock_is_not_believed(pbs: Pbs) -> None:
    begun = time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(time.time() + 30_000))
    pbs.says("100:00:00", start=begun)
    age = seconds_of_this_process()
    assert age is not None
    assert seconds_left(None, pbs.environ) == pytest.approx(360_000 - age, abs=5)


@pytest.mark.parametrize("answer", ["absent", "fails", "silent", "garbage", "binary", "no limit", "over"])
def test_where_pbs_does_not_tell_the_configuration_does(
    pbs: Pbs, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appfl_gc.site.walltime._PBS_SECONDS", 0.3)
    if answer == "absent":
        pbs.environ["PATH"] = str(pbs.directory)
        monkeypatch.setenv("PATH", str(pbs.directory))
    elif answer == "fails":
        pbs.says("10:00:00", "00:00:01", code=1)
    elif answer == "silent":
        pbs.runs("exec sleep 60")
    elif answer == "garbage":
        pbs.runs("echo no such thing = 3")
    elif answer == "binary":
        pbs.runs("head -c 1000 /dev/urandom")
    elif answer == "no limit":
        pbs.says("unlimited", "00:00:01")
    else:
        pbs.says("00:10:00", "00:11:00")
    age = seconds_of_this_process()
    assert age is not None
    assert seconds_left(None, pbs.environ) is None
    assert seconds_left(1e6, pbs.environ) == pytest.approx(1e6 - age, abs=5)


PARENT = """\
import subprocess, sys, time
from appfl_gc.site.process import seconds_of_this_process
age = seconds_of_this_process()
child = "from appfl_gc.site.process import *; print(seconds_of_these_workers(), seconds_of_this_process())"
print(age, subprocess.run([sys.executable, "-c", child], check=True, capture_output=True, text=True).stdout)
"""


@pytest.mark.parametrize("parent", ["process_worker_pool.py", "agent.py"])
def test_a_worker_in_a_dead_ones_place_counts_from_the_start_of_its_manager(
    tmp_path: Path, parent: str
) -> None:
    """But not from that of an agent, which outlives many jobs."""
    (tmp_path / parent).write_text(PARENT)
    command = [sys.executable, str(tmp_path / parent)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    age, counted, own = map(float, printed.split())
    tick = 2 / os.sysconf("SC_CLK_TCK")
    if parent == "agent.py":
        assert counted == pytest.approx(own, abs=tick)
    else:
        assert counted - own >= age - tick
        assert counted > own


def test_a_configured_length_counts_from_the_start_of_the_worker() -> None:
    age = seconds_of_this_process()
    assert age is not None
    assert seconds_left(1e6, {}) == pytest.approx(1e6 - age, abs=5)
    assert seconds_left(age / 2, {}) is None, "a job that outlives it is longer"
    assert seconds_left(None, {}) is None
    assert seconds_left(None, {"PATH": os.environ["PATH"]}) is None
