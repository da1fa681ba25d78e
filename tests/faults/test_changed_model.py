"""The newest global model is what a run goes on from: another one in its place is noticed, never used."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import appfl_gc
from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.events import Outcome, RoundFinished, RunEvent
from tests.small_federation import SmallFederation


class InterruptAfter:
    """Ends a run as Ctrl-C does, after a round."""

    def __init__(self, round_: int) -> None:
        self._round = round_

    def on_event(self, event: RunEvent) -> None:
        if isinstance(event, RoundFinished) and event.round == self._round:
            signal.raise_signal(signal.SIGINT)


def test_a_model_that_was_written_over_is_refused_and_put_back_it_serves(tmp_path: Path) -> None:
    server, clients = SmallFederation(tmp_path, rounds=3, train={"num_threads": 1}).write()
    overrides = [f"server_configs.logging_output_dirname={tmp_path / 'output'}"]
    result = appfl_gc.run(server, clients, overrides=overrides, callbacks=[InterruptAfter(2)])
    assert result.outcome is Outcome.INTERRUPTED, result.error
    assert result.model_path is not None
    right = bytearray(result.model_path.read_bytes())
    assert result.model_path.stat().st_mode & 0o222 == 0, "written over by mistake, it would be the run's own"
    wrong = bytearray(right)
    wrong[-1] ^= 1
    (newest,) = (result.run_dir / "payloads").glob("global-2.safetensors")
    with newest.open("r+b") as file:
        file.write(wrong)
    with pytest.raises(UsageError, match=r"global-2\.safetensors, is not as the run left it"):
        appfl_gc.resume(result.run_dir)
    with newest.open("r+b") as file:
        file.write(right)
    assert appfl_gc.resume(result.run_dir).outcome is Outcome.FINISHED
