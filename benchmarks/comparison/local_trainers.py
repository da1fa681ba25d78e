"""Synchronous rounds of the site's own trainers, each with the aggregator that belongs to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.registry import make_aggregator
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.site.data import class_noniid_partition, load_mnist
from appfl_gc.site.trainer.run import TrainTask, run_trainer
from comparison.workload import BATCH, LEARNING_RATE, Workload, network, small

CLIENTS = ("Client1", "Client2", "Client3", "Client4")
ROUNDS = 30
STEPS = 20
SGD = {"optim": "SGD", "optim_args": {"lr": LEARNING_RATE}}


@dataclass(frozen=True)
class Local:
    """One line of the plot: a trainer with keys of ``train_configs``, and an aggregator."""

    title: str
    trainer: str
    configs: Mapping[str, Any]
    aggregator: str = "FedAvgAggregator"


def _admm(kind: str, penalty: float, proximity: float) -> Local:
    keys = {"init_penalty": penalty, "init_proximity": proximity}
    return Local(f"{kind}, rho {penalty:g}, zeta {proximity:g}", f"{kind}Trainer", keys, f"{kind}Aggregator")


METHODS = (
    Local("FedAvg", "VanillaTrainer", SGD),
    Local("FedProx, mu 0.1", "FedProxTrainer", {**SGD, "mu": 0.1}),
    Local("FedProx, mu 1", "FedProxTrainer", {**SGD, "mu": 1.0}),
    _admm("IIADMM", 0.3, 9.7),
    _admm("IIADMM", 10.0, 0.0),
    _admm("IIADMM", 500.0, 0.0),
    _admm("ICEADMM", 2.0, 30.0),
)


def run_local(method: Local, seed: int, rounds: int) -> list[float]:
    """Test accuracy in per cent of the first model and after each round."""
    work = Workload(CLIENTS, seed)
    data = _digits(seed)
    trained = frozenset(name for name, _ in network().named_parameters())
    model = InMemoryModel(work.first_model(), trained, make_aggregator(method.aggregator, {}))
    remembered: dict[str, Mapping[str, Tensor] | None] = dict.fromkeys(CLIENTS)
    accuracy = [work.accuracy(model.state)]
    for number in range(1, rounds + 1):
        updates, metas = [], []
        for client in CLIENTS:
            outcome = run_trainer(
                TrainTask(
                    network(),
                    data[client],
                    None,
                    {"mode": "step", "num_local_steps": STEPS, "train_batch_size": BATCH, **method.configs},
                    model.state,
                    loss_fn=nn.CrossEntropyLoss(),
                    trainer=method.trainer,
                    seed=derive_seed(seed, number, client, "train"),
                    round=number,
                    client_state=remembered[client],
                )
            )
            remembered[client] = _copied(outcome.client_state)
            updates.append(outcome.state)
            metas.append(
                UpdateMeta(
                    UpdateId(client, number), number - 1, outcome.sample_size, outcome.steps,
                    Timing(0.0, 0.0, 0.0, 0.0), outcome.metrics,
                )
            )  # fmt: skip
        model.fold(updates, metas, [0] * len(metas), Cohort(len(CLIENTS), work.samples))
        accuracy.append(work.accuracy(model.state))
    return accuracy


def _digits(seed: int) -> dict[str, TensorDataset]:
    """The same share of the digits for each client as in the other comparisons."""
    train, _ = load_mnist()
    parts = class_noniid_partition(train, len(CLIENTS), seed=derive_seed(seed, 0, "", "partition") % 2**32)
    return {
        client: TensorDataset(small(part.data_input), part.data_label)
        for client, part in zip(CLIENTS, parts, strict=True)
    }


def _copied(state: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    return None if state is None else {name: torch.clone(tensor) for name, tensor in state.items()}
