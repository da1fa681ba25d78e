"""What a run that is gone on with still knows of its clients, and a beginning that fails at once."""

from __future__ import annotations

from pathlib import Path

import pytest

import appfl_gc
from appfl_gc.runner import federated_run
from appfl_gc.runner.events import Outcome, RoundFinished, RunEvent
from tests.faults.test_changed_since import InterruptAfter
from tests.runner.conftest import Heard
from tests.small_federation import DATASET, SmallFederation

BAD_FROM_ROUND_2 = """\
class Spoilt(TensorDataset):
    def __getitem__(self, index):
        if os.path.exists({bad!r}):
            raise ValueError("a record can't be read")
        return super().__getitem__(index)


def load(client_id, samples=64):
    if client_id == 1 and os.path.exists({away!r}):
        time.sleep(600)
    train, test = load_quickly(client_id, samples)
    return (Spoilt(*train.tensors) if client_id == 1 else train), test
"""


def test_a_client_that_was_set_aside_and_does_not_come_back_is_missed_at_the_end(tmp_path: Path) -> None:
    bad, away = tmp_path / "bad", tmp_path / "away"
    own = BAD_FROM_ROUND_2.format(bad=str(bad), away=str(away))
    dataset = "import os\nimport time\n\n" + DATASET.replace("def load(", "def load_quickly(").replace(
        "load(1, 200)", "load_quickly(1, 200)"
    )
    federation = SmallFederation(tmp_path / "project", rounds=4, dataset=f"{dataset}\n\n{own}")
    federation.server["control_configs"] = {"slots": 2}
    server, clients = federation.write()

    def spoil(event: RunEvent) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            bad.touch()

    result = appfl_gc.run(server, clients, callbacks=[Heard(spoil), InterruptAfter(2)])
    assert (result.outcome, set(result.set_aside)) == (Outcome.INTERRUPTED, {"Client2"})
    away.touch()
    gone_on_with = appfl_gc.resume(result.run_dir)
    assert (gone_on_with.outcome, gone_on_with.rounds) == (Outcome.PARTIAL, 4)
    assert "a record can't be read" in gone_on_with.set_aside["Client2"].message


def test_a_run_that_can_not_begin_does_not_wait_for_whoever_has_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_run, "GREETING_SECONDS", 1.0)
    body = "    if client_id == 0:\n        raise ValueError('no data')\n    __import__('time').sleep(600)\n"
    federation = SmallFederation(
        tmp_path, dataset=DATASET.replace("    generator =", f"{body}    generator =", 1)
    )
    federation.server["control_configs"] = {"slots": 2}
    result = appfl_gc.run(*federation.write())
    assert result.outcome is Outcome.FAILED
    assert "no data" in str(result.error)
