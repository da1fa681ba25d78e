"""Norm bounding: no update moves the model further than a bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.arguments import number
from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.client_weights import checked_mode, shares
from appfl_gc.aggregator.differences import differences
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.schedule import UpdateMeta


class NormBoundingAggregator(Aggregator):
    """Federated averaging of bounded updates (Sun et al., Can You Really Backdoor Federated Learning?,
    arXiv:1911.07963).

    w <- w + sum of p_k c_k (x_k - w) with c_k = min(1, M / ||x_k - w||), the norm over all trained elements; where
    updates hold differences d_k, w <- w - sum of p_k min(1, M / ||d_k||) d_k. One update moves the model by p_k M at
    most. Buffers and whole numbers have no bound; they become the updates' mean by p_k c_k.

    Args:
        norm_bound: M, greater than 0.
        client_weights_mode: p_k, as of ``FedAvgAggregator``. By ``sample_size`` a client chooses its own.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    looks = True

    def __init__(self, norm_bound: float, client_weights_mode: str = "equal") -> None:
        self.norm_bound = number("norm_bound", norm_bound, above=0)
        self.client_weights_mode = checked_mode(client_weights_mode, self)
        self._sums = WeightedSums()

    def look(self, block: Block) -> Seen:
        """The K squared norms of x_k - w."""
        squares: Seen = differences(block).square_().sum(dim=1).numpy()
        return squares

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """p_k c_k (see ``Aggregator.weights``)."""
        parts = shares(self.client_weights_mode, metas)
        if seen is None:
            return parts
        norms = [math.sqrt(square) for square in seen.tolist()]
        return [
            part if norm <= self.norm_bound else part * (self.norm_bound / norm)
            for part, norm in zip(parts, norms, strict=True)
        ]

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        if block.trained:
            return self._sums.moved(block, weights), NO_ROWS
        total = math.fsum(weights)
        # Norms beyond the range of float64 leave no weight at all.
        parts = [weight / total for weight in weights] if total else [1.0 / len(weights)] * len(weights)
        return self._sums.average(block, parts), NO_ROWS
