"""What an aggregator is: weights for the updates, and one new block of the model from a block of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import Meaning

Seen = npt.NDArray[np.float64]
"""What a first pass over the updates found."""

NO_ROWS: Mapping[str, Any] = MappingProxyType({})
"""No server state."""


@dataclass(frozen=True)
class Cohort:
    """The run's clients, whoever of them takes part in a fold.

    Attributes:
        clients: how many there are.
        samples: their training examples together, as far as they are known; 0 if none are.
    """

    clients: int
    samples: int


@dataclass(frozen=True)
class Block:
    """The same b elements of everything that a fold reads. Nothing in it may be written to.

    Elements do not depend on each other: a block may hold parts of several tensors.

    Attributes:
        current: [b], the global model's values.
        updates: [K, b], the same dtype, rows in client order; a view, perhaps strided.
        meaning: what the updates' elements are.
        trained: the elements belong to floating parameters of the model. Else they are buffers or whole numbers,
            which are averaged and never optimised.
        state: [b] for each row of the aggregator's state, float64 where ``current`` is, else float32; empty where
            not ``trained``.
    """

    current: torch.Tensor
    updates: torch.Tensor
    meaning: Meaning
    trained: bool
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)


@runtime_checkable
class Aggregator(Protocol):
    """Folds K updates into the global model, block by block. It keeps nothing and changes no argument.

    Attributes:
        state: the rows of its server state, such as a momentum, with the value that all elements begin with. Each
            row has an element for each element of a trained floating tensor.
        looks: whether ``weights`` wants what ``look`` finds, which takes a pass over all updates more.
        splits: whether trained elements are folded otherwise than the rest. If not, blocks may mix both, and
            ``Block.trained`` says nothing.
    """

    state: Mapping[str, float] = NO_ROWS
    looks: bool = False
    splits: bool = False

    def look(self, block: Block) -> Seen:
        """What ``weights`` has to know of the updates. Added up over all blocks of trained elements.

        Returns:
            an array of the same shape for every block, such as [K] squared norms or a [K, K] Gram matrix.
        """
        raise NotImplementedError

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> Sequence[float]:
        """One weight per update.

        Args:
            metas: the updates in client order.
            staleness: versions that each update is behind.
            cohort: all clients of the run.
            seen: the sum of ``look`` where the aggregator ``looks`` and the model has trained elements, else None.
        """

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """The new values of one block of the model.

        Args:
            block: what there is to fold.
            weights: K numbers of ``weights``.

        Returns:
            [b] new values, of the dtype of ``block.current``; and the new rows of state, as ``block.state``.
        """
