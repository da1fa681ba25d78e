"""The page on going on with a run, typed in; the run that it kills is killed after its first round."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.docs.page import ROOT, read
from tests.docs.test_commands import Session, assert_shown_is_printed

KILLED_AFTER_A_ROUND = """
import os, signal
from appfl_gc.runner.api import run
from appfl_gc.runner.events import RoundFinished

class Killing:
    def on_event(self, event):
        if isinstance(event, RoundFinished):
            os.killpg(0, signal.SIGKILL)

overrides = ["server_configs.num_global_epochs=3", "client_configs.train_configs.num_local_steps=2"]
run("server.yaml", "clients.yaml", callbacks=[Killing()], overrides=overrides)
"""


def test_the_page_on_going_on_does_what_it_says(tmp_path: Path) -> None:
    session = Session(tmp_path)
    printed, compared = "", 0
    for block in read(ROOT / "docs" / "resume.md").blocks:
        if "pkill" in block.text:
            kill_a_run(session.directory)
        elif block.runs:
            printed = session.run(block)
        elif block.language == "text":
            assert_shown_is_printed(block, printed)
            compared += 1
    assert compared == 5
    assert len(list(session.directory.glob("output/*/model.safetensors"))) == 1


def kill_a_run(directory: Path) -> None:
    """The run that the page starts, killed with its workers."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_A_ROUND], cwd=directory, start_new_session=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
