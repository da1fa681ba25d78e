"""Runs on real local workers that are killed with everything they started, for tests of going on with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appfl_gc.runner.journal import Record, read_journal
from tests.small_federation import SmallFederation

DEADLINE = 120.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for ``condition``."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def journal_of(directory: Path) -> list[Record]:
    """Its records so far."""
    path = directory / "journal.jsonl"
    return list(read_journal(path)) if path.exists() else []


class RunProcess:
    """``appfl-gc`` in a process group of its own; ``arguments`` follow the command's name."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self._output = cwd / "output.txt"
        with self._output.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "appfl_gc.cli.main", *arguments],
                cwd=cwd,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it and all that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(DEADLINE)

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def __enter__(self) -> RunProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def start_run(home: Path, rounds: int) -> tuple[RunProcess, Path]:
    """A run of two clients in ``home/project``; returns when its directory is there."""
    project = home / "project"
    SmallFederation(project, rounds=rounds).write()
    process = RunProcess(
        "run", "--server_config", "server.yaml", "--client_config", "clients.yaml", "--plain", cwd=project
    )
    until(lambda: bool(list(project.glob("output/*/journal.jsonl"))) or process.process.poll() is not None)
    found = list(project.glob("output/*"))
    assert found, process.printed
    return process, found[0]


def killed_run(home: Path, rounds: int = 1000, after: int = 2) -> Path:
    """The directory of a run that was killed after ``after`` rounds."""
    process, directory = start_run(home, rounds)
    with process:
        until(lambda: sum(record.kind == "round" for record in journal_of(directory)) >= after)
    return directory


def copy(directory: Path, home: Path) -> Path:
    """A copy of a run's directory with the same name; its files are where they were."""
    target = home / directory.name
    shutil.copytree(directory, target, symlinks=True)
    return target


def shorten(directory: Path, rounds: int) -> None:
    """End the run of ``directory`` after so many rounds, as an edit of its configuration does."""
    config = json.loads((directory / "invocation.json").read_text())
    config["overrides"].append(f"server_configs.num_global_epochs={rounds}")
    (directory / "invocation.json").write_text(json.dumps(config))
