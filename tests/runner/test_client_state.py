"""What clients' trainers remember, in whole runs: workers may come and go, and the algorithm is still ADMM."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from appfl_gc.runner.events import RoundFinished, RunEvent
from tests.family import below
from tests.runner.conftest import Heard, model_bits, train
from tests.small_federation import SmallFederation

ADMM = {"trainer": "IIADMMTrainer", "init_penalty": 1.0, "init_proximity": 9.0, "do_validation": False}


def admm(directory: Path) -> SmallFederation:
    server = {"aggregator": "IIADMMAggregator", "aggregator_kwargs": {}}
    return SmallFederation(directory, rounds=3, train=ADMM, server=server)


def test_a_new_worker_changes_no_bit(tmp_path: Path) -> None:
    kept: dict[int, list[str]] = {}

    def act(event: RunEvent) -> None:
        if not isinstance(event, RoundFinished):
            return
        files = tmp_path.glob("killed/output/*/local/**/clients/*/*/*.safetensors")
        kept[event.round] = sorted(path.stem.lstrip("0") for path in files)
        for pid, command in below().items() if event.round == 1 else ():
            if "spawn_main" in command:
                os.kill(pid, signal.SIGKILL)

    undisturbed = train(admm(tmp_path / "undisturbed"))
    killed = train(admm(tmp_path / "killed"), heard=Heard(act))
    assert model_bits(killed) == model_bits(undisturbed)
    assert "client_state_lost" not in (killed.run_dir / "metrics.jsonl").read_text()
    assert kept[3] == ["2", "2", "3", "3"], "each round says which state the next one goes on from"
