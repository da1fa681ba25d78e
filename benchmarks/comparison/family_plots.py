"""Plots of the trials of ``families``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from comparison.curves import summary
from comparison.families import STUDIES
from comparison.style import COLOURS, save
from comparison.trial import Trial

LINES = (
    ("black", "-"),
    ("red", "-"),
    ("orange", "--"),
    ("sky", "-"),
    ("green", ":"),
    ("blue", "-."),
    ("purple", "--"),
)


def draw_family(trials: Sequence[Trial], family: str, title: str, path: Path) -> None:
    """Accuracy over synchronous rounds, a line for each study of ``family``."""
    figure, axis = plt.subplots(figsize=(6.8, 3.2))
    studies = [study for study in STUDIES if study.family == family]
    for study, (colour, line) in zip(studies, LINES, strict=False):
        curves = np.array(
            [trial.accuracy for trial in trials if (trial.condition, trial.method) == (family, study.title)]
        )
        middle, low, high = summary(curves)
        rounds = np.arange(curves.shape[1])
        axis.plot(rounds, middle, color=COLOURS[colour], linestyle=line, label=study.title)
        axis.fill_between(rounds, low, high, color=COLOURS[colour], alpha=0.1, linewidth=0)
        axis.set_xlim(0, rounds[-1])
    axis.set_ylim(0, 100)
    axis.set_xlabel("round")
    axis.set_ylabel("test accuracy (%)")
    axis.set_title(title, loc="left")
    axis.legend(fontsize=8, bbox_to_anchor=(1.01, 0.5), loc="center left")
    figure.tight_layout()
    save(figure, path)
