"""Aggregators that take the clients' mean for a gradient and let an optimiser at the server follow it.

The pseudo-gradient is g = w - (mean of the updates), or the mean of the differences d_k where updates hold these;
both are the same where nothing is stale. Each trained element has optimiser state of its own. What is not trained
(buffers, whole numbers) becomes the updates' mean, as in federated averaging. Steps are computed in float64 and
rounded once, the state is kept in float32 (float64 for float64 tensors).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.arguments import number
from appfl_gc.aggregator.base import NO_ROWS, Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.client_weights import checked_mode, shares
from appfl_gc.aggregator.weighted_sum import WeightedSums
from appfl_gc.protocol.schedule import UpdateMeta

MOMENTUM = "momentum"
SECOND_MOMENT = "second_moment"

Rows = Mapping[str, torch.Tensor]


class _ServerOptimiser(Aggregator):
    splits = True

    def __init__(self, client_weights_mode: str) -> None:
        self.client_weights_mode = checked_mode(client_weights_mode, self)
        self._sums = WeightedSums()

    def weights(
        self, metas: Sequence[UpdateMeta], staleness: Sequence[int], cohort: Cohort, seen: Seen | None
    ) -> list[float]:
        """Weights of sum 1 (see ``Aggregator.weights``); staleness does not matter."""
        return shares(self.client_weights_mode, metas)

    def reduce(self, block: Block, weights: Sequence[float]) -> tuple[torch.Tensor, Rows]:
        """See ``Aggregator.reduce``."""
        if not block.trained:
            return self._sums.average(block, weights), NO_ROWS
        wide = {row: values.to(torch.float64) for row, values in block.state.items()}
        step, state = self._step(self._sums.gradient(block, weights), wide)
        return torch.sub(block.current, step).to(block.current.dtype), state

    @abstractmethod
    def _step(self, gradient: torch.Tensor, state: Rows) -> tuple[torch.Tensor, Rows]:
        """What is taken from the model, and the new state, all [b] in float64."""


class FedAvgMAggregator(_ServerOptimiser):
    """Federated averaging with server momentum (Hsu, Qi and Brown, arXiv:1909.06335).

    m <- beta m + g, w <- w - m, from m = 0.

    Args:
        server_momentum_param_1: beta, from 0 and below 1.
        client_weights_mode: as of ``FedAvgAggregator``.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    state = {MOMENTUM: 0.0}  # noqa: RUF012  never changed

    def __init__(self, server_momentum_param_1: float, client_weights_mode: str = "equal") -> None:
        super().__init__(client_weights_mode)
        self.momentum = number("server_momentum_param_1", server_momentum_param_1, at_least=0, below=1)

    def _step(self, gradient: torch.Tensor, state: Rows) -> tuple[torch.Tensor, Rows]:
        step = state[MOMENTUM].mul(self.momentum).add_(gradient)
        return step, {MOMENTUM: step}


class _Adaptive(_ServerOptimiser):
    """Algorithm 2 of Reddi et al., Adaptive Federated Optimization (ICLR 2021, arXiv:2003.00295).

    m <- beta1 m + (1 - beta1) g, then v by the class, w <- w - eta m / (sqrt(v) + tau), from m = 0 and v = tau^2.
    There is no bias correction, as in the paper.
    """

    def __init__(
        self,
        server_learning_rate: float,
        server_adapt_param: float,
        server_momentum_param_1: float,
        client_weights_mode: str,
    ) -> None:
        super().__init__(client_weights_mode)
        self.learning_rate = number("server_learning_rate", server_learning_rate, above=0)
        self.adaptivity = number("server_adapt_param", server_adapt_param, above=0)
        self.momentum = number("server_momentum_param_1", server_momentum_param_1, at_least=0, below=1)
        self.state = {MOMENTUM: 0.0, SECOND_MOMENT: self.adaptivity**2}

    def _step(self, gradient: torch.Tensor, state: Rows) -> tuple[torch.Tensor, Rows]:
        # No operation here multiplies and adds at once: whether that rounds once depends on the place in the block.
        first = state[MOMENTUM].mul(self.momentum).add_(gradient.mul(1 - self.momentum))
        second = self._second(state[SECOND_MOMENT], gradient.square())
        step = first.mul(self.learning_rate).div_(second.sqrt().add_(self.adaptivity))
        return step, {MOMENTUM: first, SECOND_MOMENT: second}

    @abstractmethod
    def _second(self, before: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        """The new v from the old one and g^2."""


class FedAdagradAggregator(_Adaptive):
    """FedAdagrad (Reddi et al., ICLR 2021, arXiv:2003.00295, Algorithm 2): v <- v + g^2.

    m <- beta1 m + (1 - beta1) g, w <- w - eta m / (sqrt(v) + tau), from m = 0 and v = tau^2.

    Args:
        server_learning_rate: eta, greater than 0.
        server_adapt_param: tau, greater than 0: the smaller, the more each element has a rate of its own.
        server_momentum_param_1: beta1, from 0 and below 1.
        client_weights_mode: as of ``FedAvgAggregator``.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    def __init__(
        self,
        server_learning_rate: float,
        server_adapt_param: float,
        server_momentum_param_1: float,
        client_weights_mode: str = "equal",
    ) -> None:
        super().__init__(
            server_learning_rate, server_adapt_param, server_momentum_param_1, client_weights_mode
        )

    def _second(self, before: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        return before.add(square)


class FedAdamAggregator(_Adaptive):
    """FedAdam (Reddi et al., ICLR 2021, arXiv:2003.00295, Algorithm 2): v <- beta2 v + (1 - beta2) g^2.

    m <- beta1 m + (1 - beta1) g, w <- w - eta m / (sqrt(v) + tau), from m = 0 and v = tau^2.

    Args:
        server_learning_rate, server_adapt_param, server_momentum_param_1: as of ``FedAdagradAggregator``.
        server_momentum_param_2: beta2, from 0 and below 1.
        client_weights_mode: as of ``FedAvgAggregator``.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    def __init__(
        self,
        server_learning_rate: float,
        server_adapt_param: float,
        server_momentum_param_1: float,
        server_momentum_param_2: float,
        client_weights_mode: str = "equal",
    ) -> None:
        super().__init__(
            server_learning_rate, server_adapt_param, server_momentum_param_1, client_weights_mode
        )
        self.second_momentum = number("server_momentum_param_2", server_momentum_param_2, at_least=0, below=1)

    def _second(self, before: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        return before.mul(self.second_momentum).add_(square.mul(1 - self.second_momentum))


class FedYogiAggregator(FedAdamAggregator):
    """FedYogi (Reddi et al., ICLR 2021, arXiv:2003.00295, Algorithm 2): v <- v - (1 - beta2) g^2 sign(v - g^2).

    m <- beta1 m + (1 - beta1) g, w <- w - eta m / (sqrt(v) + tau), from m = 0 and v = tau^2.

    Args:
        server_learning_rate, server_adapt_param, server_momentum_param_1, server_momentum_param_2,
        client_weights_mode: as of ``FedAdamAggregator``.

    Raises:
        UserCodeError: if an argument is wrong.
    """

    def _second(self, before: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
        sign = before.sub(square).sign_()
        return before.sub(sign.mul_(square).mul_(1 - self.second_momentum))
