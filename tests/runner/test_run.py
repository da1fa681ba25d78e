"""A run from two YAML files to a model, over real worker processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from appfl_gc.protocol.errors import StorageError, UserCodeError
from appfl_gc.runner.events import (
    ClientTrained,
    Logged,
    Outcome,
    RoundFinished,
    RunEvent,
    RunFinished,
    RunStarted,
)
from appfl_gc.runner.journal import read_journal
from tests.runner.conftest import Heard, train
from tests.small_federation import SmallFederation


def rows(run_dir: Path, kind: str) -> list[dict[str, object]]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def test_a_run_leaves_model_metrics_journal_and_logs(federation: SmallFederation) -> None:
    federation.rounds = 4
    federation.train["num_local_steps"] = 20
    federation.server["val_data_configs"] = {"dataset_path": "./dataset.py", "dataset_name": "load_test"}
    heard = Heard()
    result = train(federation, heard=heard)

    assert result.outcome is Outcome.FINISHED
    assert result.rounds == 4
    accuracies = [row["server_val_accuracy"] for row in rows(result.run_dir, "round")]
    assert len(accuracies) == 4
    assert accuracies[-1] > accuracies[0]  # type: ignore[operator]
    assert accuracies[-1] >= 0.8  # type: ignore[operator]
    assert result.metrics["server_val_accuracy"] == accuracies[-1]

    by_client = rows(result.run_dir, "client")
    assert len({(row["round"], row["client"]) for row in by_client}) == len(by_client) == 8
    assert {row["sample_size"] for row in by_client} == {64, 80}
    assert all(row["steps"] == 20 for row in by_client)
    assert all(row["queue_seconds"] >= 0 and row["compute_seconds"] > 0 for row in by_client)  # type: ignore[operator]

    kinds = [record.kind for record in read_journal(result.run_dir / "journal.jsonl")]
    assert kinds[:2] == ["journal", "run"]
    assert (kinds.count("hello"), kinds.count("dispatch"), kinds.count("arrived")) == (2, 8, 8)
    assert kinds.count("aggregated") == 4

    assert result.model_path == result.run_dir / "model.safetensors"
    assert load_file(result.model_path)["layers.0.weight"].shape == (16, 8)
    for name in (
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "config.json",
        "environment.json",
    ):
        assert (result.run_dir / name).exists(), name
    assert not (result.run_dir / "payloads").exists()
    assert "Round 4 done" in (result.run_dir / "server.log").read_text()
    (published,) = result.run_dir.glob("result_Server_*.txt")
    assert published.read_text() == (result.run_dir / "server.log").read_text()
    site_log = "local/tasks_working_dir/output/result_Client1_*.txt"
    (at_site,) = result.run_dir.glob(site_log)
    assert "The dataset is built." in at_site.read_text()
    assert at_site.read_text().count("The dataset is built.") == 1, "later rounds build no dataset"
    assert "The dataset is built." in (result.run_dir / "clients" / "Client1.log").read_text()

    assert isinstance(heard.events[-1], RunFinished)
    assert len(heard.of(ClientTrained)) == 8
    assert len(heard.of(RoundFinished)) == 4
    assert any("No site policy: any source" in event.message for event in heard.of(Logged))  # type: ignore[attr-defined]


def test_send_gradient_ends_with_the_same_model_up_to_rounding(federation: SmallFederation) -> None:
    plain = load_file(train(federation).model_path)  # type: ignore[arg-type]
    federation.train["send_gradient"] = True
    differences = load_file(train(federation).model_path)  # type: ignore[arg-type]
    for name, tensor in plain.items():
        torch.testing.assert_close(differences[name], tensor, rtol=1e-5, atol=1e-6)


def test_tied_weights_travel_as_values_and_as_differences(federation: SmallFederation) -> None:
    federation.model = (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)\n"
        "        self.b.weight = self.a.weight\n        self.last = torch.nn.Linear(8, 2)\n\n"
        "    def forward(self, x):\n        return self.last(self.b(self.a(x).relu()))\n"
    )
    federation.rounds = 1
    plain = load_file(train(federation).model_path)  # type: ignore[arg-type]
    assert torch.equal(plain["a.weight"], plain["b.weight"])
    federation.train["send_gradient"] = True
    differences = load_file(train(federation).model_path)  # type: ignore[arg-type]
    torch.testing.assert_close(differences["b.weight"], plain["b.weight"])


def test_large_models_travel_by_file_and_leave_nothing(federation: SmallFederation) -> None:
    federation.model = federation.model.replace("width=16", "width=20000")
    federation.rounds = 1
    kept: list[int] = []
    heard = Heard(lambda event: kept.append(1) if isinstance(event, ClientTrained) else None)
    result = train(federation, heard=heard)
    assert result.outcome is Outcome.FINISHED
    assert len(kept) == 2
    (size,) = {event.model_bytes for event in heard.of(RunStarted)}  # type: ignore[attr-defined]
    assert size > 1_000_000
    assert all(row["bytes_up"] > size for row in rows(result.run_dir, "client"))  # type: ignore[operator]


def test_a_run_starts_from_a_given_model(federation: SmallFederation, tmp_path: Path) -> None:
    first = train(federation)
    assert first.model_path is not None
    plain = tmp_path / "saved_elsewhere.safetensors"
    save_file(load_file(first.model_path), plain)
    federation.train["optim_args"] = {"lr": 0.0}
    federation.rounds = 1
    second = train(federation, init_model=plain)
    assert second.model_path is not None
    before, after = load_file(first.model_path), load_file(second.model_path)
    assert torch.equal(before["layers.0.weight"], after["layers.0.weight"])

    save_file({"other": torch.zeros(2)}, plain)
    with pytest.raises(UserCodeError, match="can't start from the model"):
        train(federation, init_model=plain)


def test_a_callback_that_fails_is_dropped_and_the_run_goes_on(federation: SmallFederation) -> None:
    def fail(event: RunEvent) -> None:
        raise RuntimeError("tracker is down")

    heard = Heard(fail)
    result = train(federation, heard=heard)
    assert result.outcome is Outcome.FINISHED
    assert len(heard.events) == 1
    assert "tracker is down" in (result.run_dir / "server.log").read_text()


def test_an_output_directory_that_cannot_be_written_is_one_clear_error(
    federation: SmallFederation, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    federation.server["logging_output_dirname"] = str(tmp_path / "file" / "output")
    with pytest.raises(StorageError, match="can't be made") as caught:
        train(federation)
    assert "logging_output_dirname" in caught.value.hint


def test_server_validation_is_asked_for_without_data(federation: SmallFederation) -> None:
    with pytest.raises(UserCodeError, match="val_data_configs"):
        train(federation, enable_server_val=True)
