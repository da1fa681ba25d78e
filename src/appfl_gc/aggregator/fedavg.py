"""Federated averaging (McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized
Data, AISTATS 2017, Algorithm 1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import Meaning

MODES = ("equal", "sample_size")
MOST_EXAMPLES = 1 << 53
"""No client has more; what says so is no number of examples."""


class FedAvgAggregator:
    """The weighted mean of the updates: w <- sum of n_k / n * w_k over the clients k that answered.

    Where an update holds differences d_k to the model that was sent (``send_gradient: True``), the same mean is
    w <- w - sum of n_k / n * d_k. Accuracy: see ``weighted_sum``.

    Args:
        client_weights_mode: ``sample_size`` for n_k training examples of client k and n of all that answered, as
            in the paper; ``equal`` for n_k = 1. Also n_k = 1 for all where the numbers of examples cannot weigh:
            all are 0, or one is negative or above ``MOST_EXAMPLES``.

    Raises:
        UserCodeError: if the mode is another.
    """

    def __init__(self, client_weights_mode: str = "equal") -> None:
        if client_weights_mode not in MODES:
            raise UserCodeError(
                f"client_weights_mode is {client_weights_mode!r}; FedAvgAggregator knows {' and '.join(MODES)}."
            )
        self.client_weights_mode = client_weights_mode
        self._sums = WeightedSums()

    def weights(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> list[float]:
        """Weights of sum 1 (see ``Aggregator.weights``); staleness does not matter."""
        sizes = [meta.sample_size for meta in metas]
        if self.client_weights_mode == "equal" or not any(sizes) or not _plausible(sizes):
            return [1.0 / len(metas)] * len(metas)
        return [size / sum(sizes) for size in sizes]

    def reduce(
        self, global_block: torch.Tensor, updates: torch.Tensor, weights: Sequence[float], meaning: Meaning
    ) -> torch.Tensor:
        """See ``Aggregator.reduce``."""
        if math.fsum(weights) <= 0:
            raise UserCodeError("The weights of the updates add up to nothing.")
        if meaning is Meaning.DELTA:
            return self._sums.subtracted(global_block, updates, weights)
        return self._sums.mean(updates, weights)


def _plausible(sizes: Sequence[int]) -> bool:
    return all(0 <= size <= MOST_EXAMPLES for size in sizes)
