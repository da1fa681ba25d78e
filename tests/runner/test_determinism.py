"""The same seed gives the same bits: twice, in one worker or two, cache hit or miss, worker lost or not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.runner.events import Outcome, RoundFinished, RunEvent
from tests.family import below
from tests.runner.conftest import Heard, model_bits, train
from tests.small_federation import SmallFederation


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """The bits of an undisturbed run of two workers."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    result = train(
        SmallFederation(tmp_path_factory.mktemp("reference")), "server_configs.control_configs.slots=2"
    )
    patch.undo()
    yield model_bits(result)


def test_again_in_two_workers(federation: SmallFederation, reference: bytes) -> None:
    assert model_bits(train(federation, "server_configs.control_configs.slots=2")) == reference


def test_in_one_worker(federation: SmallFederation, reference: bytes) -> None:
    assert model_bits(train(federation)) == reference


def test_another_seed_gives_other_bits(federation: SmallFederation, reference: bytes) -> None:
    assert model_bits(train(federation, "client_configs.model_configs.seed=8")) != reference


def test_one_worker_whose_cache_never_hits(
    federation: SmallFederation, reference: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "site.yaml"
    policy.write_text("max_cached: 1\n")
    monkeypatch.setenv("APPFL_GC_SITE_POLICY", str(policy))
    result = train(federation)
    (log,) = result.run_dir.glob("local/tasks_working_dir/output/result_Client1_*.txt")
    assert log.read_text().count("The dataset is built.") > 1
    assert model_bits(result) == reference


def _kill_workers() -> None:
    for pid, command in below().items():
        if "spawn_main" in command:
            os.kill(pid, signal.SIGKILL)


def test_workers_killed_between_rounds(federation: SmallFederation, reference: bytes) -> None:
    def act(event: RunEvent) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            _kill_workers()

    result = train(federation, heard=Heard(act))
    assert result.outcome is Outcome.FINISHED
    assert model_bits(result) == reference


def test_a_worker_killed_in_mid_task_is_retried(
    federation: SmallFederation, reference: bytes, tmp_path: Path
) -> None:
    marker = tmp_path / "died"
    federation.metric = (
        "import os\nfrom pathlib import Path\n\n\n"
        "def accuracy(y_true, y_pred):\n"
        f"    if not Path({str(marker)!r}).exists():\n"
        f"        Path({str(marker)!r}).write_text('')\n"
        "        os._exit(3)\n"
        "    return float((y_pred.argmax(axis=1) == y_true).mean())\n"
    )
    result = train(federation)
    assert marker.exists()
    assert result.outcome is Outcome.FINISHED
    assert "ended before it replied" in (result.run_dir / "server.log").read_text()
    assert model_bits(result) == reference
