"""Federated averaging (McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.client_weights import checked_mode, shares
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta


class FedAvgAggregator(Aggregator):
    """The weighted mean of the updates: w <- sum of n_k / n * w_k over the clients k that answered.

    A client that did the part s_k of its work counts s_k n_k.

    Where an update holds differences d_k to the model that was sent (``send_gradient: True``), the same mean is
    w <- w - sum of n_k / n * d_k. Accuracy: see ``weighted_sum``.

    Args:
        client_weights_mode: ``sample_size`` or ``equal`` (see ``client_weights.shares``); the paper's is the first.

    Raises:
        UserCodeError: if the mode is another.
    """

    def __init__(self, client_weights_mode: str = "equal") -> None:
        self.client_weights_mode = checked_mode(client_weights_mode, self)
        self._sums = WeightedSums()

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """Weights of sum 1 (see ``Aggregator.weights``); staleness does not matter."""
        return shares(self.client_weights_mode, metas)

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        if math.fsum(weights) <= 0:
            raise UserCodeError("The weights of the updates add up to nothing.")
        return self._sums.average(block, weights), NO_ROWS
