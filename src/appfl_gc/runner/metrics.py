"""Rows of ``metrics.jsonl``, and the means that make up a round."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from appfl_gc.protocol.wire import Json, as_finite

# Which metric decides that a model is the best so far: the first that the first round has; lower is better.
BEST_BY = ("server_val_loss", "val_loss", "train_loss")


def numeric_metrics(value: Json) -> dict[str, float]:
    """The finite numbers of what a site calls its metrics; anything else is left out."""
    if not isinstance(value, dict):
        return {}
    numbers = {name: as_finite(number) for name, number in list(value.items())[:200]}
    return {
        name: number
        for name, number in numbers.items()
        if number is not None and len(name) <= 100 and name.isprintable()
    }


def weighted_means(rows: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Means over clients, weighted by sample size, of each metric over the clients that report it."""
    sums: dict[str, tuple[float, float]] = {}
    for sample_size, metrics in rows:
        weight = max(1, sample_size)
        for name, value in metrics.items():
            total, weights = sums.get(name, (0.0, 0.0))
            sums[name] = (total + weight * value, weights + weight)
    means = {name: total / weights for name, (total, weights) in sums.items()}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


class MetricsFile:
    """Appends rows; each is flushed, so that a reader sees whole rows while the run goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file; what it has no room for was told of by ``write``."""
        with contextlib.suppress(OSError):
            self._file.close()
