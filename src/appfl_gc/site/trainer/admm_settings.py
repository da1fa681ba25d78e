"""The keys of ``train_configs`` that only the ADMM trainers read, checked."""

from __future__ import annotations

from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.reader import ConfigReader

LARGEST_CHANGE = 1e6
"""The penalty stays within the initial one divided and multiplied by this, so that it is always finite."""


@dataclass(frozen=True)
class Balancing:
    """Residual balancing (Boyd et al. 2011, section 3.4.1, equation 3.13).

    Attributes:
        every_step: after each step, not only after each task.
        mu: how many times larger one residual must be than the other; at least 1.
        tau: factor by which the penalty then changes; above 1.
    """

    every_step: bool
    mu: float
    tau: float

    def adjusted(self, penalty: float, primal: float, dual: float) -> float:
        """The next penalty: larger where the primal residual is, smaller where the dual one is."""
        if primal > self.mu * dual:
            return penalty * self.tau
        if dual > self.mu * primal:
            return penalty / self.tau
        return penalty


@dataclass(frozen=True)
class AdmmSettings:
    """One client's settings of ADMM.

    Attributes:
        penalty: rho of the client's first task, above 0.
        proximity: zeta, at least 0.
        momentum: of IIADMM's gradients, in [0, 1); ``nesterov`` as in ``torch.optim.SGD``.
        weight_decay: added to the gradients times the parameters, at least 0.
        without_effect: what the configuration says in vain.
        balancing: how the penalty changes, or None where it stays.
    """

    penalty: float = 500.0
    proximity: float = 0.0
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    without_effect: tuple[str, ...] = ()
    balancing: Balancing | None = None

    @classmethod
    def read(cls, read: ConfigReader, *, takes_momentum: bool) -> AdmmSettings:
        """The settings of a configuration; raises ``UserCodeError``."""
        args, used = read.inner("optim_args"), {"weight_decay"}
        momentum, nesterov = 0.0, False
        if takes_momentum:
            used |= {"momentum", "nesterov"}
            momentum = args.number("momentum", 0.0, at_least=0.0)
            nesterov = args.flag("nesterov", False)
            if momentum >= 1.0:
                raise UserCodeError(f"{args.block}.momentum is {momentum:g}; expected a number below 1.")
        idle = [f"optim_args.{name}" for name in read.mapping("optim_args") if name not in used]
        return cls(
            penalty=read.number("init_penalty", 500.0),
            proximity=read.number("init_proximity", 0.0, at_least=0.0),
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=args.number("weight_decay", 0.0, at_least=0.0),
            without_effect=tuple(idle),
            balancing=_balancing(read.inner("residual_balancing")),
        )

    def next_penalty(self, penalty: float, primal: float, dual: float) -> float:
        """The penalty after residuals ``primal`` and ``dual`` were seen, within ``LARGEST_CHANGE``."""
        if self.balancing is None:
            return penalty
        adjusted = self.balancing.adjusted(penalty, primal, dual)
        return min(max(adjusted, self.penalty / LARGEST_CHANGE), self.penalty * LARGEST_CHANGE)


def _balancing(read: ConfigReader) -> Balancing | None:
    on, every_step = read.flag("res_on", False), read.flag("res_on_every_update", False)
    mu, tau = read.number("mu", 10.0, at_least=1.0), read.number("tau", 2.0, above=1.0)
    return Balancing(every_step, mu, tau) if on or every_step else None
