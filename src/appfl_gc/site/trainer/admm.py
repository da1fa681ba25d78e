"""What the two ADMM trainers have in common: consensus, residuals, and what a client remembers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.admm_settings import AdmmSettings
from appfl_gc.site.trainer.base import Parameters, TrainResult, cpu_state
from appfl_gc.site.trainer.reader import ConfigReader
from appfl_gc.site.trainer.settings import VanillaSettings
from appfl_gc.site.trainer.trainable import Trainable, trainable
from appfl_gc.site.trainer.vanilla import VanillaTrainer

_PENALTY = "penalty"


@dataclass
class Variable:
    """One trainable parameter z, with what its constraint z = w needs; all of z's shape, dtype and device.

    Attributes:
        part: z, which the model holds, and w, the received value.
        dual: the multiplier lambda of the constraint.
    """

    part: Trainable
    dual: torch.Tensor

    @property
    def z(self) -> torch.nn.Parameter:
        """The client's own value."""
        return self.part.parameter

    @property
    def w(self) -> torch.Tensor:
        """The value that the server asks the client to agree to."""
        return self.part.received


class AdmmTrainer(VanillaTrainer):
    """Local training by the alternating direction method of multipliers, for the constraints z = w.

    Each client keeps its own parameters z and multipliers lambda from task to task, in the site's state; its
    first task begins with z = w and lambda = 0. In place of the model it sends what the server's average
    needs (``sent``), so that no multiplier travels. Every client's loss counts the same, whatever its number of
    samples. Validation after training is of z, validation before it of w.

    Its metrics are ``penalty`` (rho, as it is after the task), ``primal_residual`` ||z - w|| and
    ``dual_residual`` rho * ||z - z_before|| (Boyd et al. 2011, section 3.3; w is minimised before z here).
    """

    takes_momentum = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._state: Parameters = {}
        self._variables: list[Variable] = []
        self._penalty = 0.0
        self._admm = AdmmSettings()
        self._before: list[torch.Tensor] = []

    def read_settings(self, asked: Mapping[str, Any]) -> VanillaSettings:
        """As ``VanillaTrainer``, but an optimiser is not needed."""
        return VanillaSettings.read(self.train_configs, asked, type(self).__name__, needs_optim=False)

    def check_steps(self) -> None:
        """Read the keys of ADMM; raises ``UserCodeError``."""
        self._read_admm()

    def start_steps(self, settings: VanillaSettings) -> torch.optim.Optimizer:
        """Put the client's own z into the model; the steps are those of ADMM."""
        admm = self._read_admm()
        parts = trainable(self.model, self._took("ADMM needs the server's model"))
        if not parts:
            raise UserCodeError(
                f"The model {type(self.model).__name__} has no parameter that can be trained.",
                "Leave requires_grad of at least one parameter True.",
            )
        if not self._state:
            self._say_what_is_idle(admm, settings)
        self._admm = admm
        self._penalty = float(self._state[_PENALTY]) if self._state else admm.penalty
        self._variables = [self._variable(part) for part in parts]
        self._before = [variable.z.detach().clone() for variable in self._variables]
        return _Steps([variable.z for variable in self._variables], self._step_of_all)

    def train(self, **kwargs: Any) -> TrainResult:
        """As ``VanillaTrainer``; then the multipliers, the residuals and the penalty of the next task."""
        result = super().train(**kwargs)
        with torch.no_grad():
            self.finish()
            primal, dual = self._residuals(self._before)
        if not self._each_step:
            self._penalty = self._admm.next_penalty(self._penalty, primal, dual)
        measured = {"penalty": self._penalty, "primal_residual": primal, "dual_residual": dual}
        self.result = replace(result, metrics={**result.metrics, **measured})
        return self.result

    def get_parameters(self) -> dict[str, torch.Tensor]:
        """The update: ``sent`` of each trainable parameter, and the other tensors as they are."""
        state = cpu_state(self.model)
        by_parameter = {id(variable.z): variable for variable in self._variables}
        with torch.no_grad():
            for name, parameter in self.model.named_parameters(remove_duplicate=False):
                variable = by_parameter.get(id(parameter))
                if variable is not None:
                    state[name] = self.sent(variable, self._penalty).cpu()
        return self._as_sent(state)

    def client_state(self) -> dict[str, torch.Tensor]:
        """z, lambda and rho."""
        state = {_PENALTY: torch.tensor(self._penalty, dtype=torch.float64)}
        for variable in self._variables:
            state[f"primal.{variable.part.name}"] = variable.z.detach()
            state[f"dual.{variable.part.name}"] = variable.dual
        return state

    def load_client_state(self, state: Parameters) -> None:
        """Go on from z, lambda and rho of an earlier task."""
        self._state = state

    def checkpoint_state(self) -> dict[str, Any]:
        """lambda and rho, and z as it was at the start; the model has z as it is."""
        duals = [variable.dual for variable in self._variables]
        return {"duals": duals, "penalty": self._penalty, "before": self._before}

    def load_checkpoint_state(self, state: Mapping[str, Any]) -> None:
        """Go on from lambda and rho in the middle of a task."""
        self._penalty, self._before = state["penalty"], state["before"]
        for variable, dual in zip(self._variables, state["duals"], strict=True):
            variable.dual.copy_(dual)

    def step(self, variable: Variable, gradient: torch.Tensor, penalty: float, proximity: float) -> None:
        """One step of ``variable``, in place; ``gradient`` is the loss's at z and may be overwritten."""
        raise NotImplementedError(f"{type(self).__name__} does not define step().")

    def finish(self) -> None:
        """What follows the last step of a task, before residuals are measured."""

    def sent(self, variable: Variable, penalty: float) -> torch.Tensor:
        """What the server averages, a new tensor."""
        raise NotImplementedError(f"{type(self).__name__} does not define sent().")

    def _read_admm(self) -> AdmmSettings:
        read = ConfigReader(self.train_configs, type(self).__name__)
        return AdmmSettings.read(read, takes_momentum=self.takes_momentum)

    @property
    def _each_step(self) -> bool:
        """Whether the penalty may change after each step, and not only after the task."""
        return self._admm.balancing is not None and self._admm.balancing.every_step

    def _variable(self, part: Trainable) -> Variable:
        if not self._state:
            return Variable(part, torch.zeros_like(part.parameter, requires_grad=False))
        found = [self._state.get(f"{kind}.{part.name}") for kind in ("primal", "dual")]
        primal, dual = found
        if primal is None or dual is None or not primal.shape == dual.shape == part.parameter.shape:
            raise UserCodeError(
                f"What this site keeps of the client does not fit the model: {part.name} is not in it, or has "
                "another shape.",
                "Was the model changed in the middle of a run? Start a new run.",
            )
        with torch.no_grad():
            part.parameter.copy_(primal)
        return Variable(part, torch.empty_like(part.parameter, requires_grad=False).copy_(dual))

    def _step_of_all(self, states: Mapping[torch.Tensor, dict[str, Any]]) -> None:
        admm = self._admm
        before = [variable.z.detach().clone() for variable in self._variables] if self._each_step else []
        for variable in self._variables:
            z = variable.z
            gradient = torch.zeros_like(z) if z.grad is None else z.grad
            if admm.weight_decay:
                gradient.add_(z, alpha=admm.weight_decay)
            if admm.momentum:
                state = states[z]
                if "momentum" in state:
                    state["momentum"].mul_(admm.momentum).add_(gradient)
                else:
                    state["momentum"] = gradient.clone()
                moved = state["momentum"]
                gradient = gradient.add(moved, alpha=admm.momentum) if admm.nesterov else moved.clone()
            self.step(variable, gradient, self._penalty, admm.proximity)
        if self._each_step:
            self._penalty = admm.next_penalty(self._penalty, *self._residuals(before))

    def _residuals(self, before: list[torch.Tensor]) -> tuple[float, float]:
        primal = dual = 0.0
        for variable, old in zip(self._variables, before, strict=True):
            primal = math.hypot(primal, _norm(variable.z - variable.w))
            dual = math.hypot(dual, _norm(variable.z - old))
        return primal, self._penalty * dual

    def _say_what_is_idle(self, admm: AdmmSettings, settings: VanillaSettings) -> None:
        idle = (["optim"] if settings.optim else []) + list(admm.without_effect)
        if idle:
            self.logger.warning(
                "%s has no effect: %s takes steps of its own, which init_penalty and init_proximity set.",
                ", ".join(idle),
                type(self).__name__,
            )


def _norm(tensor: torch.Tensor) -> float:
    """The Euclidean norm, in single precision at least."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return float(torch.linalg.vector_norm(tensor, dtype=dtype))


class _Steps(torch.optim.Optimizer):
    """Evaluates the loss once a step, and hands over to the trainer."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        move: Callable[[Mapping[torch.Tensor, dict[str, Any]]], None],
    ):
        super().__init__(parameters, {})
        self._move = move

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; ``closure`` gives the loss and the gradients."""
        if closure is None:
            raise ValueError("A step of ADMM needs a closure that evaluates the loss.")
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            self._move(self.state)
        return loss
