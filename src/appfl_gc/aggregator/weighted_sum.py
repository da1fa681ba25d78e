"""Weighted sums of rows, computed in float64 or wider and rounded once.

How exact, with u the unit roundoff of the result's dtype (2^-24 for float32, 2^-11 for float16, 2^-8 for bfloat16,
2^-53 for float64), S = sum of |w_k x_k| (plus |g| for a difference) and r the exact result for the given float64
weights:

* float32, float16, bfloat16: products and sums in float64, so the value before the final rounding is within
  K * 2^-53 * S of r, and the result is r rounded: half a unit in the last place of r, plus that. Rounding to the
  16-bit types passes through float32, which may add another 2^-24 of r.
* float64: ``numpy.longdouble``; on x86 within K * 2^-64 * S before the rounding. Slow, and rare in models.
* integers and bool: ``round(x_0 + sum of w_k (x_k - x_0))``, ties to even, in ``numpy.longdouble``. Equal rows give
  that row exactly, however large.

Rows are added in their order, in groups of ``GROUP``; the bits depend on values, order, and place in the block only.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from appfl_gc.aggregator.base import Block
from appfl_gc.protocol.update_spec import Meaning

GROUP = 4
"""Rows that are widened together: small enough that a block of them stays in cache."""

SHORT_FLOATS = (torch.float32, torch.bfloat16, torch.float16)

_Wide = npt.NDArray[np.longdouble]


class WeightedSums(threading.local):
    """Sums of rows. Each thread has memory of its own, which it uses again for block after block."""

    def __init__(self) -> None:
        self._space = torch.empty(0, dtype=torch.float64)

    def average(self, block: Block, weights: Sequence[float]) -> torch.Tensor:
        """The model that the updates of ``block`` mean together, by ``weights`` of sum 1: [b] of its dtype."""
        if block.meaning is Meaning.DELTA:
            return self.subtracted(block.current, block.updates, weights)
        return self.mean(block.updates, weights)

    def moved(self, block: Block, weights: Sequence[float]) -> torch.Tensor:
        """The model moved towards the updates of ``block`` by ``weights`` of any sum: [b] of its dtype."""
        if block.meaning is Meaning.DELTA:
            return self.subtracted(block.current, block.updates, weights)
        return self.towards(block.current, block.updates, weights)

    def mean(self, rows: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        """The mean of ``rows`` [K, b] by ``weights`` of sum 1: [b] of the same dtype."""
        if rows.dtype in SHORT_FLOATS:
            return self._sum(rows, weights).to(rows.dtype)
        if rows.dtype is torch.float64:
            return _narrow(_wide_sum(rows, weights), rows.dtype)
        # Differences to the first row, so that the weights' own rounding cannot move equal rows.
        first = _widen(rows[0])
        shift = np.zeros_like(first)
        for row, weight in zip(rows, weights, strict=True):
            shift += np.longdouble(weight) * (_widen(row) - first)
        moved = _narrow(first + shift, rows.dtype)
        return torch.where(torch.from_numpy(shift == 0), rows[0], moved)

    def subtracted(self, start: torch.Tensor, rows: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        """``start`` [b] minus the sum of ``rows`` [K, b] by ``weights``: [b] of the same dtype."""
        if rows.dtype in SHORT_FLOATS:
            total = self._sum(rows, weights)
            return torch.sub(start, total, out=total).to(rows.dtype)
        return _narrow(_widen(start) - _wide_sum(rows, weights), rows.dtype)

    def towards(self, start: torch.Tensor, rows: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        """``start`` [b] plus the sum of ``rows`` - ``start`` by ``weights``: [b] of the same dtype.

        Integers: in ``numpy.longdouble``, so that rows equal to ``start`` leave it as it is.
        """
        if rows.dtype in SHORT_FLOATS:
            total = self._sum(rows, weights)
            # Not torch.add with a factor: whether that rounds once or twice depends on the place in the block.
            return total.add_(start.to(torch.float64).mul_(1 - math.fsum(weights))).to(rows.dtype)
        first = _widen(start)
        shift = np.zeros_like(first)
        for row, weight in zip(rows, weights, strict=True):
            shift += np.longdouble(weight) * (_widen(row) - first)
        narrow = _narrow(first + shift, rows.dtype)
        return (
            narrow
            if rows.dtype is torch.float64
            else torch.where(torch.from_numpy(shift == 0), start, narrow)
        )

    def gradient(self, block: Block, weights: Sequence[float]) -> torch.Tensor:
        """``block.current`` minus the updates' mean, by ``weights`` of sum 1: [b] in float64.

        It may lie in memory that the next call of this thread overwrites.
        """
        value = block.meaning is Meaning.VALUE
        if block.current.dtype is torch.float64:
            wide = _wide_sum(block.updates, weights)
            return _narrow(_widen(block.current) - wide if value else wide, torch.float64)
        total = self._sum(block.updates, weights)
        return torch.sub(block.current, total, out=total) if value else total

    def _sum(self, rows: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
        """The sum in float64, in memory that the next call of this thread overwrites."""
        count, width = rows.shape
        factors = torch.tensor(weights, dtype=torch.float64)
        if self._space.numel() < (1 + GROUP) * width:
            self._space = torch.empty((1 + GROUP) * width, dtype=torch.float64)
        space = self._space[: (1 + GROUP) * width].view(1 + GROUP, width)
        total, wide = space[0], space[1:]
        for begin in range(0, count, GROUP):
            end = min(begin + GROUP, count)
            group = wide[: end - begin].copy_(rows[begin:end])
            torch.addmv(total, group.t(), factors[begin:end], beta=1 if begin else 0, out=total)
        return total


def _wide_sum(rows: torch.Tensor, weights: Sequence[float]) -> _Wide:
    total = np.zeros(rows.shape[1], dtype=np.longdouble)
    for row, weight in zip(rows, weights, strict=True):
        total += np.longdouble(weight) * _widen(row)
    return total


def _widen(row: torch.Tensor) -> _Wide:
    wide: _Wide = row.numpy().astype(np.longdouble)
    return wide


def _narrow(values: _Wide, dtype: torch.dtype) -> torch.Tensor:
    if dtype is torch.float64:
        return torch.from_numpy(values.astype(np.float64))
    if dtype is torch.bool:
        return torch.from_numpy(np.rint(values) >= 1)
    limits = torch.iinfo(dtype)
    rounded = np.clip(np.rint(values), np.longdouble(limits.min), np.longdouble(limits.max))
    return torch.from_numpy(rounded.astype(np.int64)).to(dtype)
