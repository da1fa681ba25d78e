"""``trainer: IIADMMTrainer``."""

from __future__ import annotations

import torch

from appfl_gc.site.trainer.admm import AdmmTrainer, Variable


class IIADMMTrainer(AdmmTrainer):
    """Improved inexact ADMM (Ryu and Kim 2022, arXiv:2202.03672, Algorithm 1).

    With g the gradient of the batch's loss at z, each step minimises the linearised augmented Lagrangian
    <g, z'> + <lambda, w - z'> + rho / 2 * ||w - z'||^2 + zeta / 2 * ||z' - z||^2, whose solution is
    z' = w + (lambda - g + zeta * (z - w)) / (rho + zeta). After the last step of a task
    lambda <- lambda + rho * (w - z). The server's next model is the mean of u = z - lambda / rho over the clients,
    which minimises the augmented Lagrangian over w where all have the same rho. ``optim_args.momentum``,
    ``nesterov`` and ``weight_decay`` act on g as in ``torch.optim.SGD``; momentum starts anew in each task.
    """

    takes_momentum = True

    def step(self, variable: Variable, gradient: torch.Tensor, penalty: float, proximity: float) -> None:
        """z <- w + (lambda - g + zeta * (z - w)) / (rho + zeta)."""
        move = gradient.neg_().add_(variable.dual)
        if proximity:
            move.add_(variable.z - variable.w, alpha=proximity)
        variable.z.copy_(move.div_(penalty + proximity).add_(variable.w))

    def finish(self) -> None:
        """lambda <- lambda + rho * (w - z)."""
        for variable in self._variables:
            variable.dual.add_(variable.w - variable.z, alpha=self._penalty)

    def sent(self, variable: Variable, penalty: float) -> torch.Tensor:
        """u = z - lambda / rho."""
        return variable.z - variable.dual / penalty
