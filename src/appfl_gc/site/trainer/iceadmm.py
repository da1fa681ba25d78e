"""``trainer: ICEADMMTrainer``."""

from __future__ import annotations

import torch

from appfl_gc.site.trainer.admm import AdmmTrainer, Variable


class ICEADMMTrainer(AdmmTrainer):
    """Inexact communication-efficient ADMM (Zhou and Li 2021, arXiv:2110.15318, Algorithm 2).

    With g the gradient of the batch's loss at z, each step is
    z <- z - (rho * (z - w) + g + lambda) / (zeta + rho), then lambda <- lambda + rho * (z - w). The server's next
    model is the mean of u = z + lambda / rho over the clients, weighted by their rho. ``optim_args.weight_decay``
    acts on g as in ``torch.optim.SGD``.
    """

    def step(self, variable: Variable, gradient: torch.Tensor, penalty: float, proximity: float) -> None:
        """One step of z, then of lambda."""
        away = variable.z - variable.w
        move = gradient.add_(variable.dual).add_(away, alpha=penalty).div_(penalty + proximity)
        variable.z.sub_(move)
        variable.dual.add_(variable.z - variable.w, alpha=penalty)

    def sent(self, variable: Variable, penalty: float) -> torch.Tensor:
        """u = z + lambda / rho."""
        return variable.z + variable.dual / penalty
