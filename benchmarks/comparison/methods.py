"""What is compared: a scheduler and an aggregator by their names in a configuration, with their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comparison.conditions import Condition
from comparison.workload import LEARNING_RATE, STEPS

POLYNOMIAL = {"staleness_fn": "polynomial", "staleness_fn_kwargs": {"a": 0.5}, "alpha": 0.9}
"""As in the published sample files."""
SAFETY_BUFFER = 2.0

Kwargs = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """An algorithm.

    Attributes:
        name: in tables and plots.
        scheduler, aggregator: names in a configuration.
        rounds: whether ``num_global_epochs`` counts rounds; client updates otherwise.
        scheduler_kwargs, aggregator_kwargs: given a condition.
    """

    name: str
    scheduler: str
    aggregator: str
    rounds: bool
    scheduler_kwargs: Callable[[Condition], Kwargs]
    aggregator_kwargs: Callable[[Condition], Kwargs]


def nothing(condition: Condition) -> Kwargs:
    """No arguments: the defaults."""
    return {}


def stale(condition: Condition) -> Kwargs:
    """The published discount of stale updates."""
    return POLYNOMIAL


def fresh(condition: Condition) -> Kwargs:
    """Every update counts in full, however stale."""
    return {"staleness_fn": "constant", "alpha": 1.0}


def buffered(condition: Condition) -> Kwargs:
    """A new model of every half as many updates as there are clients."""
    return {**POLYNOMIAL, "K": condition.clients // 2}


def compass(condition: Condition) -> Kwargs:
    """As in the published sample file."""
    return {
        "max_local_steps": STEPS,
        "min_local_steps": STEPS // 5,
        "speed_momentum": 0.9,
        "latest_time_factor": 1.5,
    }


def queue(condition: Condition) -> Kwargs:
    """As in the published sample file but for the seconds, which the condition gives."""
    return {
        "t_sync": condition.t_sync,
        "safety_buffer": SAFETY_BUFFER,
        "lr_base": LEARNING_RATE,
        "warm_up_steps": STEPS // 5,
        "alpha_queue": 0.5,
        "alpha_compute": 0.5,
        "admission_tolerance": 0.15,
    }


def harmonic(condition: Condition) -> Kwargs:
    """As in the published sample file."""
    return {"staleness_fn": "harmonic", "staleness_fn_kwargs": {"beta": 0.5}}


SYNC = Method("Sync", "SyncScheduler", "FedAvgAggregator", True, nothing, nothing)
METHODS = (
    SYNC,
    Method("Async", "AsyncScheduler", "FedAsyncAggregator", False, nothing, stale),
    # tells what the discount of stale updates does from what staleness does
    Method("Async, no discount", "AsyncScheduler", "FedAsyncAggregator", False, nothing, fresh),
    Method("FedBuff", "AsyncScheduler", "FedBuffAggregator", False, nothing, buffered),
    Method("Compass", "CompassScheduler", "FedCompassAggregator", False, compass, stale),
    Method("Queue", "QueueScheduler", "FedQueueAggregator", True, queue, harmonic),
)


def method_called(name: str) -> Method:
    """The method of this name."""
    return next(method for method in METHODS if method.name == name)
