"""Rows of ``metrics.jsonl``, and the means that make up a round."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appfl_gc.protocol.wire import Json

# Which metric decides that a model is the best so far: the first that a run has; lower is better.
BEST_BY = ("server_val_loss", "val_loss", "pre_val_loss", "train_loss")


def numeric_metrics(value: Json) -> dict[str, float]:
    """The finite numbers of what a site calls its metrics; anything else is left out."""
    if not isinstance(value, dict):
        return {}
    return {
        name: float(number)
        for name, number in list(value.items())[:200]
        if len(name) <= 100 and name.isprintable()
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
    }


def weighted_means(rows: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Means over clients, weighted by sample size, of each metric over the clients that report it."""
    sums: dict[str, tuple[float, float]] = {}
    for sample_size, metrics in rows:
        weight = max(1, sample_size)
        for name, value in metrics.items():
            total, weights = sums.get(name, (0.0, 0.0))
            sums[name] = (total + weight * value, weights + weight)
    return {name: total / weights for name, (total, weights) in sums.items()}


def deciding_loss(metrics: Mapping[str, float]) -> float | None:
    """The value by which the best model is chosen (see ``BEST_BY``), or None if there is none."""
    return next((metrics[name] for name in BEST_BY if name in metrics), None)


class MetricsFile:
    """Appends rows; each is flushed, so that a reader sees whole rows while the run goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
