"""The server's log never ends a run."""

from __future__ import annotations

from pathlib import Path

from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.run_directory import RunDirectory


def test_a_full_disk_under_the_log_goes_unheard(tmp_path: Path) -> None:
    (tmp_path / "server.log").symlink_to("/dev/full")
    recorder = Recorder(RunDirectory(tmp_path), None, ())
    recorder.log("A line for which there is no room.")
    recorder.close()
