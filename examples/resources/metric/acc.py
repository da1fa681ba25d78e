"""Accuracy, written as a metric of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def accuracy(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Share of right answers in per cent.

    Args:
        y_true: class numbers, shape [N] or [N, 1].
        y_pred: scores of shape [N, classes], or one probability per sample, shape [N] or [N, 1].
    """
    if y_pred.ndim > 1 and y_pred.shape[1] > 1:
        answers = y_pred.argmax(axis=1)
    else:
        answers = np.round(y_pred).reshape(-1)
    return 100.0 * float(np.mean(answers == y_true.reshape(-1)))
