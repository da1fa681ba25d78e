"""What an aggregator is: weights for the updates, and one new block of the model from a block of each.

Two extensions are foreseen and not built. An aggregator that needs a look at the updates before it weighs them
(norms, a Gram matrix) gets a first pass over the same blocks, whose result joins the metas. One that keeps state
(momentum) gets the block of its state beside the global block and returns both; the state is a file like the
model. Neither changes what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import Meaning


class Aggregator(Protocol):
    """Folds K updates into the global model, block by block. It keeps nothing and changes no argument."""

    def weights(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> Sequence[float]:
        """One weight per update.

        Args:
            metas: the updates in client order.
            staleness: versions that each update is behind.
        """

    def reduce(
        self, global_block: torch.Tensor, updates: torch.Tensor, weights: Sequence[float], meaning: Meaning
    ) -> torch.Tensor:
        """The new values of one block of the model.

        Elements do not depend on each other: a block may hold parts of several tensors.

        Args:
            global_block: [b], the current values.
            updates: [K, b], the same dtype, rows in client order; a view, perhaps strided.
            weights: K numbers of ``weights``.
            meaning: what the updates' elements are.

        Returns:
            [b], the same dtype.
        """
