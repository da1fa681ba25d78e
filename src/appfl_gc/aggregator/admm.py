"""Aggregators of the two ADMM algorithms. Their clients keep the duals and send one vector, u_k, as their model.

Both servers minimise the augmented Lagrangian over the global model, which has a closed form:

* IIADMM, with the dual's sign of its paper: w <- (1 / K) sum of (z_k - lambda_k / rho_k);
* ICEADMM: w <- sum of rho_k (z_k + lambda_k / rho_k) by sum of rho_k.

A client therefore sends u_k = z_k - lambda_k / rho_k, or u_k = z_k + lambda_k / rho_k, and the server takes a mean. It
needs no state, and duals take no room on the wire. Buffers and whole numbers are averaged equally.

A client that did the part s_k of its work counts by that part in the mean, of this one fold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.client_weights import shares
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.schedule import UpdateMeta

PENALTY = "penalty"
"""The number in which an ICEADMM trainer tells rho_k."""


class IIADMMAggregator(Aggregator):
    """The server of IIADMM (Ryu and Kim, APPFL, arXiv:2202.03672): w <- (1 / K) sum of u_k.

    u_k = z_k - lambda_k / rho_k is what ``IIADMMTrainer`` sends; or its difference to the model that it received, whose
    mean is taken from w.
    """

    def __init__(self) -> None:
        self._sums = WeightedSums()

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """1 / K each where all did all of their work (see ``Aggregator.weights``)."""
        return shares("equal", metas)

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        return self._sums.average(block, weights), NO_ROWS


class ICEADMMAggregator(IIADMMAggregator):
    """The server of ICEADMM (Zhou and Li, arXiv:2110.15318): w <- sum of rho_k u_k by sum of rho_k.

    u_k = z_k + lambda_k / rho_k is what ``ICEADMMTrainer`` sends, with rho_k as its number ``penalty``. An update whose
    penalty is missing, or no finite number above 0, weighs as much as the others do in the mean; where none has one,
    all weigh the same.
    """

    splits = True

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """Weights of sum 1 (see ``Aggregator.weights``)."""
        penalties = [meta.numbers.get(PENALTY, math.nan) for meta in metas]
        good = [penalty for penalty in penalties if math.isfinite(penalty) and penalty > 0]
        if not good:
            return super().weights(metas, staleness, cohort, seen)
        largest = max(good)
        typical = math.fsum(penalty / largest for penalty in good) / len(good)
        parts = [
            meta.share * (penalty / largest if math.isfinite(penalty) and penalty > 0 else typical)
            for meta, penalty in zip(metas, penalties, strict=True)
        ]
        total = math.fsum(parts)
        return [part / total for part in parts]

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        if not block.trained:
            weights = [1.0 / len(weights)] * len(weights)
        return super().reduce(block, weights)
