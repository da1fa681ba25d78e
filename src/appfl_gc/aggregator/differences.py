"""How far each update moves the model."""

from __future__ import annotations

import torch

from appfl_gc.aggregator.base import Block
from appfl_gc.protocol.update_spec import Meaning


def differences(block: Block) -> torch.Tensor:
    """The rows x_k - w of a block, or those that hold differences as they are (w - x_k): [K, b] in float64.

    The sign does not matter to norms and to inner products of two rows.
    """
    # Always of the same strides, whatever those of the updates: sums over it then have the same bits.
    rows = torch.empty(block.updates.shape, dtype=torch.float64).copy_(block.updates)
    return rows if block.meaning is Meaning.DELTA else rows.sub_(block.current)
