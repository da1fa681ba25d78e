"""A federation whose sites do no work: its trainer returns the model that it received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from appfl_gc.config import Federation, load

MODEL = """\
import torch


class Net(torch.nn.Module):
    def __init__(self, parameters):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(parameters))
"""
DATASET = """\
import torch
from torch.utils.data import TensorDataset


def load():
    return TensorDataset(torch.zeros(1, 1), torch.zeros(1)), None
"""
TRAINER = """\
class Nothing:
    steps = 0

    def __init__(self, model):
        pass

    def load_parameters(self, state):
        self.state = state

    def train(self):
        pass

    def get_parameters(self):
        return self.state
"""


@contextmanager
def idle_federation(
    clients: int, rounds: int, model_bytes: int, slots: int | None = None
) -> Iterator[Federation]:
    """A loaded configuration in a temporary directory, which is also where its runs are written.

    Args:
        clients: of endpoint ``local``.
        rounds: of training.
        model_bytes: of the model, one float32 tensor.
        slots: workers; None for the program's choice.
    """
    with TemporaryDirectory(prefix="appfl-gc-bench-") as name:
        directory = Path(name)
        for file, text in {"model.py": MODEL, "dataset.py": DATASET, "trainer.py": TRAINER}.items():
            (directory / file).write_text(text)
        server = {
            "client_configs": {
                "train_configs": {
                    "trainer": "Nothing",
                    "trainer_path": "./trainer.py",
                    "logging_output_dirname": name,
                },
                "model_configs": {
                    "model_path": "./model.py",
                    "model_name": "Net",
                    "model_kwargs": {"parameters": model_bytes // 4},
                },
            },
            "server_configs": {
                "num_clients": clients,
                "scheduler": "SyncScheduler",
                "aggregator": "FedAvgAggregator",
                "num_global_epochs": rounds,
                "logging_output_dirname": name,
                "control_configs": {"slots": slots} if slots else {},
            },
        }
        client = {
            "endpoint_id": "local",
            "data_configs": {"dataset_path": "./dataset.py", "dataset_name": "load"},
        }
        sites = [{**client, "client_id": f"Client{number + 1}"} for number in range(clients)]
        (directory / "server.yaml").write_text(yaml.safe_dump(server))
        (directory / "clients.yaml").write_text(yaml.safe_dump({"clients": sites}))
        yield load(directory / "server.yaml", directory / "clients.yaml")
