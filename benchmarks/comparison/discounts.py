"""A plot of the staleness functions."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from appfl_gc.aggregator.staleness import discount
from comparison.style import COLOURS, save

MOST = 20
SHOWN = (
    ("constant", {}, "constant", "black", "o"),
    ("hinge", {"a": 0.5, "b": 4}, "hinge, a = 0.5, b = 4", "purple", "s"),
    ("polynomial", {"a": 0.5}, "polynomial, a = 0.5", "orange", "^"),
    ("harmonic", {"beta": 0.5}, "harmonic, beta = 0.5", "green", "D"),
    ("exponential", {"beta": 0.3}, "exponential, beta = 0.3", "blue", "v"),
)


def draw_discounts(path: Path) -> None:
    """How much an update counts by its staleness."""
    figure, axis = plt.subplots(figsize=(6, 3))
    behind = range(MOST + 1)
    for name, arguments, label, colour, marker in SHOWN:
        factor = discount(name, arguments)
        axis.plot(
            behind, [factor(staleness) for staleness in behind],
            color=COLOURS[colour], marker=marker, markersize=3.5, linewidth=1.2, label=label,
        )  # fmt: skip
    axis.set_xlabel("staleness: versions that the update is behind")
    axis.set_ylabel("factor of its weight")
    axis.set_xlim(0, MOST)
    axis.set_ylim(0, 1.05)
    axis.legend(fontsize=8, bbox_to_anchor=(1.01, 0.5), loc="center left")
    figure.tight_layout()
    save(figure, path)
