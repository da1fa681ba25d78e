"""What the trials come to: curves on a common grid, the time to a target, medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comparison.methods import SYNC
from comparison.trial import Trial

POINTS = 101
"""Of a curve, its two ends included."""
PLATEAU = 0.2
"""The plateau is the mean accuracy over the last such share of the synchronous run."""
TARGET = 0.95
"""Of the synchronous plateau."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Median, least and most of several seeds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, form: str) -> str:
        """Such as ``3.1 (2.9 to 3.4)``; only the median where all are the same."""
        middle, low, high = (format(value, form) for value in (self.median, self.least, self.most))
        return middle if low == high else f"{middle} ({low} to {high})"


def on_grid(places: Sequence[float], values: Sequence[float], grid: Floats) -> Floats:
    """The last of ``values`` up to each point of ``grid``; NaN beyond the last place."""
    positions = np.searchsorted(np.asarray(places, dtype=float), grid, side="right") - 1
    found: Floats = np.asarray(values, dtype=float)[positions]
    return found


def by_time(trial: Trial, seconds: float) -> Floats:
    """Accuracy at ``POINTS`` moments from 0 to ``seconds``; NaN after the run's end."""
    grid = np.linspace(0, seconds, POINTS)
    curve = on_grid(trial.at, trial.accuracy, grid)
    curve[grid > trial.seconds * (1 + 1e-9)] = np.nan
    return curve


def by_updates(trial: Trial, clients: int, rounds: int) -> Floats:
    """Accuracy after 0, 1, 2 ... ``rounds`` times as many updates as there are clients; NaN where there are fewer."""
    grid = np.arange(rounds + 1, dtype=float) * clients
    curve = on_grid(trial.updates, trial.accuracy, grid)
    curve[grid > trial.updates[-1]] = np.nan
    return curve


def plateau(sync: Trial) -> float:
    """The accuracy that the synchronous algorithm ends at."""
    moments = np.asarray(sync.at)
    return float(np.mean(np.asarray(sync.accuracy)[moments >= (1 - PLATEAU) * sync.seconds]))


def seconds_to(trial: Trial, accuracy: float) -> float | None:
    """The first virtual second with a model of at least ``accuracy``; None if there was none."""
    return next((at for at, value in zip(trial.at, trial.accuracy, strict=True) if value >= accuracy), None)


@dataclass(frozen=True)
class Comparison:
    """An algorithm beside the synchronous one under one condition, over the seeds.

    Attributes:
        reached: seeds in which it reached the target.
        seconds: virtual seconds to the target, over those seeds; None if there is none.
        speed_up: the synchronous algorithm's seconds to the target by this one's, over the same seeds.
        final: accuracy of the last model within the time, in per cent.
        updates, steps: updates and local steps in a virtual second by those of the synchronous algorithm.
        idle, train: shares of the sites' time, in per cent.
        staleness: mean, in versions.
    """

    condition: str
    method: str
    reached: int
    seeds: int
    seconds: Spread | None
    speed_up: Spread | None
    final: Spread
    updates: Spread
    steps: Spread
    idle: Spread
    train: Spread
    staleness: Spread


def compare(trials: Sequence[Trial], condition: str, method: str) -> Comparison:
    """``method`` under ``condition``; the synchronous trials of the same seeds must be among ``trials``."""
    here = {(trial.method, trial.seed): trial for trial in trials if trial.condition == condition}
    seeds = sorted(seed for name, seed in here if name == method)
    seconds, speed_up, updates, steps = [], [], [], []
    for seed in seeds:
        sync, own = here[SYNC.name, seed], here[method, seed]
        target = TARGET * plateau(sync)
        reference, reached = seconds_to(sync, target), seconds_to(own, target)
        if reached is not None and reference is not None:
            seconds.append(reached)
            speed_up.append(reference / reached)
        updates.append(own.updates[-1] / own.seconds / (sync.updates[-1] / sync.seconds))
        steps.append(own.steps / own.seconds / (sync.steps / sync.seconds))
    own_trials = [here[method, seed] for seed in seeds]
    return Comparison(
        condition=condition,
        method=method,
        reached=len(seconds),
        seeds=len(seeds),
        seconds=Spread.of(seconds) if seconds else None,
        speed_up=Spread.of(speed_up) if speed_up else None,
        final=Spread.of([trial.accuracy[-1] for trial in own_trials]),
        updates=Spread.of(updates),
        steps=Spread.of(steps),
        idle=Spread.of([100 * trial.idle for trial in own_trials]),
        train=Spread.of([100 * trial.train for trial in own_trials]),
        staleness=Spread.of([trial.staleness for trial in own_trials]),
    )
