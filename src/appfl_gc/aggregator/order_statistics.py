"""Robust aggregators that look at each element by itself: a minority of any updates moves none of them far.

Both leave out the smallest and the largest values of each element and take the mean of what is left, of buffers and
whole numbers as well. Where updates hold differences, that is taken from the model. Updates count alike whatever
their clients say of themselves, also of how much of their work they did.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.arguments import number
from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.sorting import Sorting
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta

SLACK = 1e-9
"""By so much may trim_fraction * K fall short of a whole number through rounding."""


class _Trimmed(Aggregator):
    def __init__(self) -> None:
        self._sums = WeightedSums()
        self._sortings: dict[int, Sorting] = {}

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """1 / K each (see ``Aggregator.weights``)."""
        return [1.0 / len(metas)] * len(metas)

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        left = self._sorting(len(weights)).middle(block.updates)
        middle = Block(block.current, left, block.meaning, block.trained)
        return self._sums.average(middle, [1.0 / len(left)] * len(left)), NO_ROWS

    def _sorting(self, count: int) -> Sorting:
        if count not in self._sortings:
            self._sortings[count] = Sorting(count, self._trimmed(count))
        return self._sortings[count]

    @abstractmethod
    def _trimmed(self, count: int) -> int:
        """How many of ``count`` values are left out at each end."""


class CoordinateMedianAggregator(_Trimmed):
    """The median of each element (Yin et al., ICML 2018, arXiv:1803.01498, Algorithm 1, option I).

    w <- median of x_k; with an even number of updates the mean of the two in the middle. Fewer than half of the
    updates, whatever they hold, cannot move an element out of the range of the others. One or two updates have no
    minority: they are averaged.
    """

    def _trimmed(self, count: int) -> int:
        return (count - 1) // 2


class TrimmedMeanAggregator(_Trimmed):
    """The trimmed mean of each element (Yin et al., ICML 2018, arXiv:1803.01498, Algorithm 1, option II).

    w <- mean of x_k without the floor(beta K) smallest and as many largest of K updates. As many updates, whatever they
    hold, cannot move an element out of the range of the others. A fold of fewer than 1 / beta updates trims nothing and
    protects from nothing.

    Args:
        trim_fraction: beta, from 0 and below 0.5.
        num_clients: of the run, if known.

    Raises:
        UserCodeError: if beta is out of its range, or too small to trim anything even when all clients answer.
    """

    def __init__(self, trim_fraction: float, num_clients: int | None = None) -> None:
        super().__init__()
        self.trim_fraction = number("trim_fraction", trim_fraction, at_least=0, below=0.5)
        if num_clients is not None and self.trim_fraction > 0 and not self._trimmed(num_clients):
            raise UserCodeError(
                f"trim_fraction {self.trim_fraction:g} of {num_clients} clients is less than one: nothing would be "
                "trimmed.",
                f"Give at least {1 / num_clients:.4g}"
                + (
                    ", or choose another aggregator: so few clients have no minority."
                    if num_clients < 3
                    else "."
                ),
            )

    def _trimmed(self, count: int) -> int:
        return math.floor(self.trim_fraction * count + SLACK)
