"""Trials for the pages of two families of aggregators: the server's optimisers, and what a poisoned client does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from appfl_gc.scheduler.registry import make_scheduler
from appfl_gc.simulation.builtin_profiles import builtin_profiles
from comparison.trial import Change, Trial, honest, train

CLIENTS = 8
ROUNDS = 30
POISONED = "client-1"
POISON = -4.0
"""The poisoned client sends its update times this: the opposite of what it learnt, four times as far."""


@dataclass(frozen=True)
class Study:
    """One line of a plot: an aggregator in synchronous rounds."""

    family: str
    title: str
    aggregator: str
    kwargs: Mapping[str, Any]
    poisoned: bool = False


ADAPTIVE = {"server_adapt_param": 0.001, "server_momentum_param_1": 0.9}
SECOND = {"server_momentum_param_2": 0.99}
OPTIMISERS, ROBUST = "server-optimisers", "robust"
STUDIES = (
    Study(OPTIMISERS, "FedAvg", "FedAvgAggregator", {}),
    Study(OPTIMISERS, "FedAvgM", "FedAvgMAggregator", {"server_momentum_param_1": 0.5}),
    Study(OPTIMISERS, "FedAdagrad", "FedAdagradAggregator", {**ADAPTIVE, "server_learning_rate": 0.1}),
    Study(OPTIMISERS, "FedAdam", "FedAdamAggregator", {**ADAPTIVE, **SECOND, "server_learning_rate": 0.03}),
    Study(OPTIMISERS, "FedYogi", "FedYogiAggregator", {**ADAPTIVE, **SECOND, "server_learning_rate": 0.03}),
    Study(ROBUST, "FedAvg, nobody poisoned", "FedAvgAggregator", {}),
    Study(ROBUST, "FedAvg", "FedAvgAggregator", {}, True),
    Study(ROBUST, "Coordinate median", "CoordinateMedianAggregator", {}, True),
    Study(ROBUST, "Trimmed mean", "TrimmedMeanAggregator", {"trim_fraction": 0.125}, True),
    Study(ROBUST, "Krum, m = 1", "KrumAggregator", {"num_byzantine": 1, "num_selected": 1}, True),
    Study(ROBUST, "Multi-Krum, m = 5", "KrumAggregator", {"num_byzantine": 1, "num_selected": 5}, True),
    Study(ROBUST, "Norm bounding", "NormBoundingAggregator", {"norm_bound": 3.0}, True),
)


def poisoned(client: str, update: dict[str, Tensor]) -> dict[str, Tensor]:
    """The update that ``client`` sends."""
    return {name: POISON * tensor for name, tensor in update.items()} if client == POISONED else update


def run_study(study: Study, seed: int, rounds: int = ROUNDS) -> Trial:
    """Synchronous rounds with the aggregator of ``study``; the trial's method is its title."""
    profiles = builtin_profiles("homogeneous", CLIENTS, seed)
    scheduler = make_scheduler("SyncScheduler", rounds, {}, seed)
    change: Change = poisoned if study.poisoned else honest
    aggregator = (study.aggregator, study.kwargs)
    return train(profiles, scheduler, aggregator, seed, (study.family, study.title), change=change)
