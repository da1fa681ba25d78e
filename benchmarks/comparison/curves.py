"""Plots of accuracy over virtual time and over rounds, one panel for each condition."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from comparison.conditions import CONDITIONS, Condition
from comparison.measures import POINTS, TARGET, Floats, by_time, by_updates, plateau
from comparison.methods import METHODS, SYNC
from comparison.style import COLOURS, LINES, save
from comparison.trial import Trial


def draw_time(trials: Sequence[Trial], path: Path) -> None:
    """Accuracy over virtual time, in synchronous rounds so that seeds of different speeds lie above each other."""
    _panels(trials, path, over_time=True)


def draw_rounds(trials: Sequence[Trial], path: Path) -> None:
    """Accuracy over the number of updates, in multiples of the number of clients."""
    _panels(trials, path, over_time=False)


def _panels(trials: Sequence[Trial], path: Path, *, over_time: bool) -> None:
    shown = [
        condition for condition in CONDITIONS if any(trial.condition == condition.name for trial in trials)
    ]
    columns = 2 if len(shown) > 1 else 1
    rows = (len(shown) + columns) // columns
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.1 * columns, 2.7 * rows), sharey=True, squeeze=False
    )
    for axis, condition in zip(axes.flat, shown, strict=False):
        _panel(axis, [trial for trial in trials if trial.condition == condition.name], condition, over_time)
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    place = axes.flat[len(shown)] if len(shown) < axes.size else figure
    place.legend(handles, labels, loc="center" if place is not figure else "lower center", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel("test accuracy (%)")
    figure.supxlabel(
        "virtual time, in rounds of Sync" if over_time else "client updates / number of clients", fontsize=9
    )
    figure.tight_layout()
    save(figure, path)


def _panel(axis: Axes, trials: Sequence[Trial], condition: Condition, over_time: bool) -> None:
    syncs = {trial.seed: trial for trial in trials if trial.method == SYNC.name}
    rounds = max(sync.updates[-1] for sync in syncs.values()) // condition.clients
    for method in METHODS:
        own = [trial for trial in trials if trial.method == method.name]
        if not own:
            continue
        if over_time:
            curves = np.array([by_time(trial, syncs[trial.seed].seconds) for trial in own])
            places = np.linspace(0, rounds, POINTS)
        else:
            curves = np.array([by_updates(trial, condition.clients, rounds) for trial in own])
            places = np.arange(rounds + 1, dtype=float)
        colour, line = LINES[method.name]
        middle, low, high = summary(curves)
        axis.plot(places, middle, color=colour, linestyle=line, label=method.name)
        axis.fill_between(places, low, high, color=colour, alpha=0.13, linewidth=0)
    target = TARGET * float(np.median([plateau(sync) for sync in syncs.values()]))
    axis.axhline(target, color=COLOURS["grey"], linewidth=0.8, label="95 % of Sync's plateau")
    axis.set_title(f"{condition.title}, {condition.clients} clients")
    axis.set_ylim(0, 95)
    axis.set_xlim(0, rounds)


def summary(curves: Floats) -> tuple[Floats, Floats, Floats]:
    """Median, least and most over the seeds [seeds, points], NaN where most of them have ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # points where all seeds have ended
        parts = np.nanmedian(curves, axis=0), np.nanmin(curves, axis=0), np.nanmax(curves, axis=0)
    ended = np.isnan(curves).sum(axis=0) * 2 > len(curves)
    for part in parts:
        part[ended] = np.nan
    return parts
