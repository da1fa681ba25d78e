"""A small valid configuration that each test changes in one place."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.config import Diagnostic, Examination, Federation, examine, load

SERVER = """\
client_configs:
  train_configs:
    trainer: "VanillaTrainer"
    mode: "step"
    num_local_steps: 5
    optim: "Adam"
    optim_args:
      lr: 0.001
    loss_fn_path: "./loss.py"
    loss_fn_name: "CELoss"
    metric_path: "./metric.py"
    metric_name: "accuracy"
  model_configs:
    model_path: "./model.py"
    model_name: "CNN"
    model_kwargs:
      num_classes: 10
server_configs:
  num_clients: 2
  scheduler: "SyncScheduler"
  aggregator: "FedAvgAggregator"
  aggregator_kwargs:
    client_weights_mode: equal
  num_global_epochs: 2
"""

CLIENTS = """\
clients:
  - endpoint_id: local
    client_id: "Client1"
    data_configs:
      dataset_path: "./dataset.py"
      dataset_name: "get_data"
      dataset_kwargs:
        client_id: 0
  - endpoint_id: local
    client_id: "Client2"
    data_configs:
      dataset_path: "./dataset.py"
      dataset_name: "get_data"
      dataset_kwargs:
        client_id: 1
"""

PYTHON = {
    "loss.py": """\
        import torch.nn as nn
        class CELoss(nn.Module):
            def __init__(self, weight=1.0):
                super().__init__()
        """,
    "metric.py": """\
        def accuracy(y_true, y_pred):
            return 1.0
        """,
    "model.py": """\
        import torch
        class CNN(torch.nn.Module):
            def __init__(self, num_classes, num_channel=1):
                super().__init__()
        """,
    "dataset.py": """\
        def get_data(client_id, num_clients=2):
            return None, None
        """,
}


@dataclass
class Project:
    """Two YAML files and the Python files that they name, in a directory."""

    directory: Path
    server: str = SERVER
    clients: str = CLIENTS

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def change_server(self, old: str, new: str) -> None:
        assert self.server.count(old) == 1, old
        self.server = self.server.replace(old, new)

    def change_clients(self, old: str, new: str, count: int = 1) -> None:
        assert old in self.clients, old
        self.clients = self.clients.replace(old, new, count)

    def files(self) -> tuple[Path, Path]:
        return self.write("server.yaml", self.server), self.write("clients.yaml", self.clients)

    def examine(self, **options: Any) -> Examination:
        return examine(*self.files(), **options)

    def load(self, **options: Any) -> Federation:
        return load(*self.files(), **options)

    def found(self, **options: Any) -> list[Diagnostic]:
        return list(self.examine(**options).diagnostics)

    def only(self, **options: Any) -> Diagnostic:
        """The single finding, its file without the directory."""
        found = self.found(**options)
        assert len(found) == 1, "\n".join(map(str, found))
        return found[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A valid project; the working directory is elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    made = Project(tmp_path / "project")
    for name, text in PYTHON.items():
        made.write(name, text)
    return made


def place(found: Diagnostic) -> Mapping[str, object]:
    """Where a finding points, for one assertion."""
    return {"file": Path(found.file).name, "line": found.line, "key": found.key}
