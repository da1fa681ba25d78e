"""A federation that trains in milliseconds: two YAML files and the user's files, written where a test wants them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DATASET = """\
import torch
from torch.utils.data import TensorDataset


def load(client_id, samples=64):
    generator = torch.Generator().manual_seed(client_id)
    x = torch.randn(samples, 8, generator=generator)
    y = (x.sum(dim=1) + 0.1 * client_id > 0).long()
    return TensorDataset(x, y), TensorDataset(x[:16], y[:16])


def load_test():
    return load(1, 200)[0]
"""
MODEL = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, width), torch.nn.BatchNorm1d(width), torch.nn.ReLU(), torch.nn.Dropout(0.1),
            torch.nn.Linear(width, 2),
        )

    def forward(self, x):
        return self.layers(x)
"""
METRIC = """\
def accuracy(y_true, y_pred):
    return float((y_pred.argmax(axis=1) == y_true).mean())
"""


@dataclass
class SmallFederation:
    """Configuration and files; change what a test is about, then ``write``."""

    directory: Path
    clients: int = 2
    rounds: int = 2
    dataset: str = DATASET
    model: str = MODEL
    metric: str = METRIC
    train: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    client: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def write(self) -> tuple[Path, Path]:
        """Write everything; returns the paths of the server's and the clients' YAML file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        files = {"dataset.py": self.dataset, "model.py": self.model, "metric.py": self.metric, **self.files}
        for name, text in files.items():
            (self.directory / name).write_text(text)
        server, clients = self.directory / "server.yaml", self.directory / "clients.yaml"
        server.write_text(yaml.safe_dump(self._server()))
        clients.write_text(yaml.safe_dump({"clients": [self._client(i) for i in range(self.clients)]}))
        return server, clients

    def _server(self) -> dict[str, Any]:
        train: dict[str, Any] = {
            "trainer": "VanillaTrainer",
            "mode": "step",
            "num_local_steps": 5,
            "optim": "SGD",
            "optim_args": {"lr": 0.1},
            "loss_fn": "CrossEntropyLoss",
            "metric_path": "./metric.py",
            "metric_name": "accuracy",
            "do_validation": True,
            "train_batch_size": 16,
            "val_batch_size": 16,
            **self.train,
        }
        server: dict[str, Any] = {
            "num_clients": self.clients,
            "scheduler": "SyncScheduler",
            "aggregator": "FedAvgAggregator",
            "aggregator_kwargs": {"client_weights_mode": "sample_size"},
            "num_global_epochs": self.rounds,
            "logging_output_dirname": str(self.directory / "output"),
            "control_configs": {"slots": 1},
            **self.server,
        }
        model = {"model_path": "./model.py", "model_name": "Net", "seed": 7}
        return {"client_configs": {"train_configs": train, "model_configs": model}, "server_configs": server}

    def _client(self, number: int) -> dict[str, Any]:
        return {
            "endpoint_id": "local",
            "client_id": f"Client{number + 1}",
            "data_configs": {
                "dataset_path": "./dataset.py",
                "dataset_name": "load",
                "dataset_kwargs": {"client_id": number, "samples": 64 + 16 * number},
            },
            **self.client.get(number, {}),
        }
