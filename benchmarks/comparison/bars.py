"""A plot of where the sites' time goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from comparison.conditions import CONDITIONS
from comparison.measures import Comparison
from comparison.methods import METHODS
from comparison.style import LINES, save

WIDTH = 0.125


def draw_idle(rows: Mapping[tuple[str, str], Comparison], path: Path) -> None:
    """The sites' idle time by condition and method, with the spread over the seeds."""
    shown = [condition for condition in CONDITIONS if any(name == condition.name for name, _ in rows)]
    figure, axis = plt.subplots(figsize=(8, 2.8))
    for place, method in enumerate(METHODS):
        found = [rows[condition.name, method.name].idle for condition in shown]
        middles = np.array([idle.median for idle in found])
        spread = [middles - [idle.least for idle in found], [idle.most for idle in found] - middles]
        bars = axis.bar(
            np.arange(len(shown)) + (place - (len(METHODS) - 1) / 2) * (WIDTH + 0.02), middles, WIDTH,
            yerr=spread, color=LINES[method.name][0], label=method.name, error_kw={"linewidth": 0.8},
        )  # fmt: skip
        axis.bar_label(bars, fmt="%.0f", fontsize=6, padding=1)
    axis.set_xticks(range(len(shown)), [condition.title for condition in shown])
    axis.set_ylabel("idle site time (%)")
    axis.grid(False, axis="x")
    axis.legend(ncols=len(METHODS), loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    figure.tight_layout()
    save(figure, path)
