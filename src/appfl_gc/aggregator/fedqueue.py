"""The aggregator of FedQueue (Li et al., arXiv:2605.02125): a mean by local steps and staleness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.staleness import discount
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.schedule import UpdateMeta


class FedQueueAggregator(Aggregator):
    """The mean of the updates, weighted by s(t_k) * q_k with staleness t_k and q_k local steps really done.

    w <- sum of p_k x_k, or w <- w - sum of p_k d_k for differences, where p_k = s(t_k) q_k by the sum of these. Where
    no update has steps, q_k = 1 for all. What a client did not do is not among its steps, so that its share of the work
    is not looked at.

    Args:
        staleness_fn: name of s (see ``staleness``).
        staleness_fn_kwargs: its arguments.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    def __init__(
        self, staleness_fn: str = "constant", staleness_fn_kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self._discount = discount(staleness_fn, staleness_fn_kwargs or {})
        self._sums = WeightedSums()

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """Weights of sum 1 (see ``Aggregator.weights``)."""
        steps = [max(0, meta.steps) for meta in metas]
        most = max(steps)
        # By the largest, so that the sum stays in range; and no factor is lost to 0 while another counts.
        parts = [
            self._discount(age) * (count / most if most else 1.0)
            for age, count in zip(staleness, steps, strict=True)
        ]
        largest = max(parts)
        total = sum(part / largest for part in parts)
        return [part / largest / total for part in parts]

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        return self._sums.average(block, weights), NO_ROWS
