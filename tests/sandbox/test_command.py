"""``appfl-gc sandbox``: whatever ends it, no process and no file is left."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from appfl_gc.cli.sandbox_command import end_politely, run_command
from appfl_gc.protocol.errors import UsageError
from appfl_gc.sandbox.sandbox import Sandbox
from tests.sandbox.rest import DEADLINE, wait_until

PROGRAM = (sys.executable, "-m", "appfl_gc.cli.main", "sandbox")
SUBMIT = """
import json, os, signal, sys, time
from globus_compute_sdk import Executor
executor = Executor("00000000-5a4d-4b0c-8000-000000000001")
function = executor.client.register_source_code("def double(x):\\n    return 2 * x\\n", "double")
print(executor.submit_to_registered_function(function, (21,)).result(120), flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Home and temporary directory of the commands."""
    (tmp_path / "tmp").mkdir()
    yield tmp_path


def _start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        env=_environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _environment(place: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(place), "TMPDIR": str(place / "tmp")}


def _family(pids: Iterable[int]) -> dict[int, str]:
    """The command lines of these processes and of those below them, by their ids; some end meanwhile."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(pid)
            for process in (top, *top.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[process.pid] = " ".join(process.cmdline())
    return found


def _of(sandbox: Sandbox) -> dict[int, str]:
    return _family([sandbox.description.pid, *sandbox.endpoint_pids()])


def _gone(pids: Iterable[int]) -> bool:
    return not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_up_status_and_down_beside_another_sandbox(sandbox: Sandbox, place: Path) -> None:
    directory = place / "second"
    up = subprocess.run(
        [*PROGRAM, "up", "--endpoints", "1", "--directory", str(directory)],
        env=_environment(place), capture_output=True, text=True, timeout=DEADLINE, check=True,
    )  # fmt: skip
    exports = dict(shlex.split(line)[1].split("=", 1) for line in up.stdout.splitlines())
    second = Sandbox.attach(directory)
    assert second is not None
    try:
        assert exports == {
            **second.environment,
            "NO_PROXY": exports["NO_PROXY"],
            "no_proxy": exports["no_proxy"],
        }
        assert exports["HTTP_PROXY"] != sandbox.environment["HTTP_PROXY"]
        status = subprocess.run(
            [*PROGRAM, "status", "--format", "json", "--directory", str(directory)],
            env=_environment(place), capture_output=True, text=True, timeout=DEADLINE, check=True,
        )  # fmt: skip
        seen = json.loads(status.stdout)
        assert [one["name"] for one in seen["endpoints"]] == ["site1"]
        assert seen["processes"]["endpoints"]
        pids = _of(second)
        assert {*seen["processes"]["endpoints"], second.description.pid} <= pids.keys()
    finally:
        down = subprocess.run(
            [*PROGRAM, "down", "--directory", str(directory)],
            env=_environment(place),
            timeout=DEADLINE,
            check=False,
        )
    assert down.returncode == 0
    wait_until(lambda: _gone(pids))  # a helper of the broker ends when it finds the broker gone
    assert not directory.exists()
    assert not list((place / "tmp").iterdir())
    again = subprocess.run(
        [*PROGRAM, "down", "--directory", str(directory)],
        env=_environment(place), capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert (again.returncode, "There is no sandbox in" in again.stderr) == (2, True)


def test_ctrl_c_ends_the_command_and_leaves_nothing(place: Path) -> None:
    command = "echo $GLOBUS_COMPUTE_USER_DIR; sleep 600 & sleep 600"
    run = _start(place, "run", "--endpoints", "0", "--", "sh", "-c", command)
    assert run.stdout is not None
    root = Path(run.stdout.readline().strip()).parent
    sandbox = Sandbox.attach(root)
    assert sandbox is not None
    pids = {**_of(sandbox), **_family([run.pid])}
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(DEADLINE) == 128 + signal.SIGINT
    wait_until(lambda: _gone(pids))
    assert not list((place / "tmp").iterdir())


def test_a_killed_run_takes_agents_and_workers_with_it(place: Path) -> None:
    directory = place / "sandbox"
    arguments = ("--endpoints", "1", "--directory", str(directory), "--", sys.executable, "-c", SUBMIT)
    run = _start(place, "run", *arguments)
    assert run.stdout is not None
    assert run.stdout.readline() == "42\n"
    sandbox = Sandbox.attach(directory)
    assert sandbox is not None
    pids = {**_of(sandbox), **_family([run.pid])}
    titles = " ".join(pids.values())
    for part in ("beam", "epmd", "Globus Compute Endpoint", "interchange", "worker"):
        assert part in titles
    run.kill()
    wait_until(lambda: _gone(pids))
    assert Sandbox.attach(directory) is None


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -TERM $$", 143)])
def test_the_exit_status_is_the_commands(sandbox: Sandbox, command: str, status: int) -> None:
    with end_politely():
        assert run_command(["sh", "-c", command], sandbox) == status


def test_a_command_that_is_not_there_is_told(sandbox: Sandbox) -> None:
    with end_politely(), pytest.raises(UsageError, match="no-such-command can't be started"):
        run_command(["no-such-command"], sandbox)
