"""Aggregators for updates that come when they come: each moves the model a little, the less the older it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from appfl_gc.aggregator.arguments import number, whole_number
from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.client_weights import checked_mode, shares_of_all
from appfl_gc.aggregator.staleness import discount
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.schedule import UpdateMeta


class FedAsyncAggregator(Aggregator):
    """Asynchronous federated optimisation (Xie, Koyejo and Gupta, arXiv:1903.03934, Algorithm 1).

    The model moves towards each update x_k of staleness t_k: w <- w + sum of a_k (x_k - w) with
    a_k = alpha * s(t_k) * p_k. The paper's step is this with one update and p_k = 1. Published configurations have
    p_k in it, the client's share of all clients, so that a pass over all of them moves the model about as far as one
    synchronous round: the paper's alpha is alpha * p_k here.

    A client that did the part s_k of its work moves the model by s_k a_k: over many versions it counts by what it
    did, as it does in a mean.

    Where an update holds differences d_k to the model that was sent, w <- w - sum of a_k d_k. Both are the same for
    what is not stale. For what is, a difference adds what the client learnt, and a full model also takes back part of
    what others taught since.

    Buffers and whole numbers move towards the updates' mean by the sum of a_k, at most by 1.

    Args:
        client_weights_mode: ``equal`` for p_k of 1 by the number of clients, ``sample_size`` for training examples of
            client k by those of all.
        alpha: greater than 0.
        staleness_fn: name of s (see ``staleness``).
        staleness_fn_kwargs: its arguments.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    splits = True

    def __init__(
        self,
        client_weights_mode: str = "equal",
        alpha: float = 0.9,
        staleness_fn: str = "constant",
        staleness_fn_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.client_weights_mode = checked_mode(client_weights_mode, self)
        self.alpha = number("alpha", alpha, above=0)
        self._discount = discount(staleness_fn, staleness_fn_kwargs or {})
        self._sums = WeightedSums()

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """The numbers a_k (see ``Aggregator.weights``)."""
        shares = shares_of_all(self.client_weights_mode, metas, cohort)
        return [
            self.alpha * self._discount(age) * share for age, share in zip(staleness, shares, strict=True)
        ]

    def reduce(
        self, block: Block, weights: Sequence[float]
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """See ``Aggregator.reduce``."""
        total = math.fsum(weights)
        if not block.trained and total > 1:
            # Past the mean a variance could become negative.
            weights = [weight / total for weight in weights]
        return self._sums.moved(block, weights), NO_ROWS


class FedBuffAggregator(FedAsyncAggregator):
    """Buffered asynchronous aggregation (Nguyen et al., AISTATS 2022, arXiv:2106.06639, Algorithm 1).

    ``FedAsyncAggregator``'s sum over K updates at once. The paper divides by K and has a server learning rate: that is
    alpha * K * p_k here.

    Args:
        K: updates in a buffer, from 1; the scheduler waits for them.
        client_weights_mode, alpha, staleness_fn, staleness_fn_kwargs: as of ``FedAsyncAggregator``.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    def __init__(
        self,
        K: int,
        client_weights_mode: str = "equal",
        alpha: float = 0.9,
        staleness_fn: str = "constant",
        staleness_fn_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(client_weights_mode, alpha, staleness_fn, staleness_fn_kwargs)
        self.K = whole_number("K", K, at_least=1)


class FedCompassAggregator(FedAsyncAggregator):
    """The aggregator of FedCompass (Li et al., ICLR 2024, arXiv:2309.14675, Algorithm 1).

    ``FedAsyncAggregator``'s sum over the updates of an arrival group, with p_k of 1 by the number of clients.

    Args:
        alpha, staleness_fn, staleness_fn_kwargs: as of ``FedAsyncAggregator``.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    def __init__(
        self,
        alpha: float = 0.9,
        staleness_fn: str = "constant",
        staleness_fn_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__("equal", alpha, staleness_fn, staleness_fn_kwargs)
