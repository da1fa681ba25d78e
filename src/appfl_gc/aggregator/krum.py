"""Krum and Multi-Krum: the updates that lie closest to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from appfl_gc.aggregator.arguments import whole_number
from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.differences import differences
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta


class KrumAggregator(Aggregator):
    """Multi-Krum (Blanchard et al., Machine Learning with Adversaries, NeurIPS 2017).

    The score of an update is the sum of its squared distances to its K - f - 2 nearest others; the mean of the m
    updates with the smallest scores becomes the model (equal scores: in client order). m = 1 is Krum. Buffers and whole
    numbers are those of the same updates. Chosen updates count alike, also where a client did a part of its work only.

    Up to f arbitrary updates do no harm where K >= 2 f + 3. A fold of fewer still chooses by the same rule, with at
    least one neighbour and at most K - f updates, and has no such guarantee.

    Distances come from the Gram matrix of x_k - w in float64.

    Args:
        num_byzantine: f, from 0: how many updates of a fold may be arbitrary.
        num_selected: m, from 1.
        num_clients: of the run, if known.

    Raises:
        UserCodeError: if an argument is wrong, or the run has too few clients for it.
    """

    looks = True

    def __init__(self, num_byzantine: int, num_selected: int = 1, num_clients: int | None = None) -> None:
        self.num_byzantine = whole_number("num_byzantine", num_byzantine, at_least=0)
        self.num_selected = whole_number("num_selected", num_selected, at_least=1)
        if num_clients is not None and num_clients < 2 * self.num_byzantine + 3:
            raise UserCodeError(
                f"Krum with num_byzantine {num_byzantine} needs {2 * num_byzantine + 3} clients or more; the run "
                f"has {num_clients}.",
                "CoordinateMedianAggregator protects from fewer than half of the clients, however few there are.",
            )
        if num_clients is not None and self.num_selected > num_clients - self.num_byzantine:
            raise UserCodeError(
                f"num_selected is {num_selected}; of {num_clients} clients without num_byzantine {num_byzantine} "
                f"there are {num_clients - num_byzantine}."
            )
        self._sums = WeightedSums()

    def look(self, block: Block) -> Seen:
        """The [K, K] inner products of x_k - w."""
        moves = differences(block)
        gram: Seen = (moves @ moves.t()).numpy()
        return gram

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """1 / m for those that are chosen, else 0 (see ``Aggregator.weights``)."""
        count = len(metas)
        selected = min(self.num_selected, max(1, count - self.num_byzantine))
        scores = np.zeros(count) if seen is None else self._scores(seen)
        chosen = set(np.argsort(scores, kind="stable")[:selected].tolist())
        return [1.0 / selected if index in chosen else 0.0 for index in range(count)]

    def _scores(self, gram: Seen) -> Seen:
        squares = gram.diagonal()
        with np.errstate(all="ignore"):
            distances = squares[:, None] + squares[None, :] - 2 * gram
            distances = np.maximum(np.nan_to_num(distances, nan=np.inf), 0.0)
            np.fill_diagonal(distances, np.inf)
            neighbours = min(len(gram) - 1, max(1, len(gram) - self.num_byzantine - 2))
            nearest: Seen = np.sort(distances, axis=1)[:, :neighbours].sum(axis=1)
        return nearest

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        chosen = [index for index, weight in enumerate(weights) if weight]
        rows = Block(block.current, block.updates[chosen], block.meaning, block.trained)
        return self._sums.average(rows, [weights[index] for index in chosen]), NO_ROWS
