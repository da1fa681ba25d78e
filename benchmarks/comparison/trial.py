"""One run of one algorithm on the virtual clock, with real training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from appfl_gc.aggregator.base import Cohort
from appfl_gc.aggregator.registry import make_aggregator, updates_per_aggregation
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.wire import Json
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.registry import make_scheduler
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.learner import Trained, Work
from appfl_gc.simulation.model_learner import ModelLearner
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.summary import Summary
from appfl_gc.simulation.timeline import FoldRow, Timeline
from comparison.conditions import Condition
from comparison.methods import SYNC, Method
from comparison.workload import LEARNING_RATE, STEPS, State, Workload

ROUNDS = 40
"""Of the synchronous algorithm; the others get as many virtual seconds as those take."""
MOST_STEPS = 2.5
"""A run ends early when its clients have done this many times the local steps of the synchronous one."""
MOMENT = 1e-6
"""Virtual seconds that a run goes on, so that all that happens at its last moment does."""
UNBOUNDED = 10**9
"""``num_global_epochs`` of a run that ends by the clock."""
ACCURACY = "accuracy"

Change = Callable[[str, dict[str, Tensor]], dict[str, Tensor]]
"""What a client makes of its update before it sends it."""


def honest(client: str, update: dict[str, Tensor]) -> dict[str, Tensor]:
    """The update as it is."""
    del client
    return update


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Attributes:
        seconds: virtual seconds until the end.
        at, updates, accuracy: for each version of the model from the first: virtual second, client updates in it
            so far, test accuracy in per cent.
        steps: local steps of all updates that arrived.
        staleness: mean over the updates, in versions.
        idle, train: shares of the sites' time.
    """

    condition: str
    method: str
    seed: int
    seconds: float
    at: Sequence[float]
    updates: Sequence[int]
    accuracy: Sequence[float]
    steps: int
    staleness: float
    idle: float
    train: float


class NoTraining:
    """A learner for runs of which only the times are wanted."""

    def steps(self, client: str, args: Mapping[str, Json]) -> int:
        """See ``Learner``."""
        return local_steps(client, args)

    def train(self, work: Work) -> Trained:
        """See ``Learner``."""
        return Trained(1)

    def fold(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> Mapping[str, float]:
        """See ``Learner``."""
        return {}

    def forget(self, version: int) -> None:
        """See ``Learner``."""


def local_steps(client: str, args: Mapping[str, Json]) -> int:
    """Local steps of a dispatch with these ``args``."""
    del client
    steps = args.get("local_steps")
    return steps if isinstance(steps, int) else STEPS


def run_trial(condition: Condition, method: Method, seed: int, rounds: int = ROUNDS) -> Trial:
    """``method`` under ``condition``, for as many virtual seconds as ``rounds`` synchronous rounds take."""
    profiles = condition.profiles(seed)
    until = length(condition, method, seed, rounds)
    scheduler = scheduler_of(method, condition, seed, rounds if method is SYNC else UNBOUNDED)
    arguments = method.aggregator_kwargs(condition)
    return train(
        profiles, scheduler, (method.aggregator, arguments), seed, (condition.name, method.name), until=until
    )


def length(condition: Condition, method: Method, seed: int, rounds: int) -> float:
    """Virtual seconds of a trial: those of the synchronous rounds, or fewer as ``MOST_STEPS`` says."""
    profiles = condition.profiles(seed)
    sync = simulate(scheduler_of(SYNC, condition, seed, rounds), profiles, NoTraining(), seed=seed)
    if method is SYNC:
        return sync.seconds + MOMENT
    timeline = Timeline()
    scheduler = scheduler_of(method, condition, seed, UNBOUNDED)
    simulate(scheduler, profiles, NoTraining(), seed=seed, until=sync.seconds + MOMENT, record=timeline.add)
    steps = itertools.accumulate(fold.steps for fold in timeline.folds)
    ends = (
        fold.at for fold, done in zip(timeline.folds, steps, strict=True) if done >= MOST_STEPS * sync.steps
    )
    return next(ends, sync.seconds) + MOMENT


def scheduler_of(method: Method, condition: Condition, seed: int, epochs: int) -> Scheduler:
    """The scheduler of ``method``, for ``epochs`` of what it counts."""
    together = updates_per_aggregation(method.aggregator, method.aggregator_kwargs(condition))
    return make_scheduler(method.scheduler, epochs, method.scheduler_kwargs(condition), seed, together)


def train(
    profiles: Sequence[ClientProfile],
    scheduler: Scheduler,
    aggregator: tuple[str, Mapping[str, Any]],
    seed: int,
    names: tuple[str, str],
    *,
    until: float = float("inf"),
    change: Change = honest,
) -> Trial:
    """Run the workload; ``names`` say of which condition and method the trial is."""
    clients = tuple(profile.client for profile in profiles)
    workload = Workload(clients, seed)
    first = workload.first_model()

    def work(work: Work, state: State) -> tuple[Mapping[str, Tensor], Trained]:
        given = work.args.get("learning_rate")
        rate = float(given) if isinstance(given, float | int) else LEARNING_RATE
        update = workload.difference(work.client, work.dispatch, state, work.steps, rate)
        return change(work.client, update), Trained(workload.sample_size(work.client))

    def evaluate(version: int, state: State) -> Mapping[str, float]:
        del version
        return {ACCURACY: workload.accuracy(state)}

    learner = ModelLearner(
        first,
        frozenset(first),
        make_aggregator(*aggregator),
        Cohort(len(clients), workload.samples),
        local_steps,
        work,
        evaluate,
        frozenset(first),
    )
    timeline = Timeline()
    summary = simulate(scheduler, profiles, learner, seed=seed, until=until, record=timeline.add)
    return trial(names, seed, summary, timeline.folds, workload.accuracy(first))


def trial(
    names: tuple[str, str], seed: int, summary: Summary, folds: Sequence[FoldRow], first: float
) -> Trial:
    """The trial of a finished simulation; ``first`` is the accuracy of version 0."""
    at, updates, accuracy = [0.0], [0], [first]
    for fold in folds:
        at.append(fold.at)
        updates.append(updates[-1] + len(fold.updates))
        accuracy.append(fold.numbers[ACCURACY])
    return Trial(
        *names, seed, summary.seconds, at, updates, accuracy,
        summary.steps, summary.mean_staleness, summary.idle_share, summary.train_share,
    )  # fmt: skip
