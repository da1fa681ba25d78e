"""What a run goes on from has changed since its server ended: that is noticed, and nothing is spoilt by it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import appfl_gc
from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.events import Outcome, RoundFinished, RunEvent
from tests.small_federation import SmallFederation

FICKLE = """\
import os

from appfl_gc.scheduler.sync import SyncScheduler


class Fickle(SyncScheduler):
    def step(self, now, event):
        actions = super().step(now, event)
        return actions[:1] if os.environ.get("MOOD") == "bad" else actions
"""


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


def test_a_scheduler_that_answers_otherwise_is_refused_and_the_run_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = SmallFederation(tmp_path, rounds=3, train={"num_threads": 1}, files={"fickle.py": FICKLE})
    federation.server |= {"scheduler": "Fickle", "scheduler_path": "./fickle.py", "scheduler_kwargs": {}}
    server, clients = federation.write()
    overrides = [f"server_configs.logging_output_dirname={tmp_path / 'output'}"]
    result = appfl_gc.run(server, clients, overrides=overrides, callbacks=[InterruptAfter(2)])
    assert result.outcome is Outcome.INTERRUPTED, result.error
    before = files_of(result.run_dir)
    monkeypatch.setenv("MOOD", "bad")
    more_rounds = ["server_configs.num_global_epochs=4"]
    with pytest.raises(UsageError, match="answers otherwise than it did: to record"):
        appfl_gc.resume(result.run_dir, overrides=more_rounds)
    assert files_of(result.run_dir) == before
    monkeypatch.delenv("MOOD")
    gone_on_with = appfl_gc.resume(result.run_dir, overrides=more_rounds)
    assert (gone_on_with.outcome, gone_on_with.rounds) == (Outcome.FINISHED, 4)


def test_a_quorum_that_is_lowered_lets_the_run_go_on_without_the_client_that_ended_it(tmp_path: Path) -> None:
    federation = SmallFederation(tmp_path, clients=3, rounds=3)
    federation.client[2] = {"train_configs": {"optim_args": {"lr": 1e38}}}  # its update is not finite
    federation.server["fault_tolerance_configs"] = {"quorum": 1.0}
    server, clients = federation.write()
    overrides = [f"server_configs.logging_output_dirname={tmp_path / 'output'}"]
    result = appfl_gc.run(server, clients, overrides=overrides)
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert result.error is not None
    assert "A lower `quorum` goes on with fewer" in result.error.hint
    lower = ["server_configs.fault_tolerance_configs.quorum=0.5"]
    gone_on_with = appfl_gc.resume(result.run_dir, overrides=lower)
    assert (gone_on_with.outcome, gone_on_with.rounds) == (Outcome.PARTIAL, 3)
    assert set(gone_on_with.set_aside) == {"Client3"}


def files_of(run_dir: Path) -> dict[str, bytes]:
    """What the run has written down to go on from."""
    return {
        str(path.relative_to(run_dir)): path.read_bytes()
        for path in run_dir.rglob("*")
        if path.is_file()
        and path.suffix not in (".log", ".txt")
        and path.relative_to(run_dir).parts[0] not in ("leases", "local")
    }
