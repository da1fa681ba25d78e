"""The trainer that users derive from, and what a trainer says about its work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.step_watch import StepWatch

LossFn: TypeAlias = Callable[[Any, Any], torch.Tensor]
"""``loss(model_output, target)`` to a scalar tensor."""

Metric: TypeAlias = Callable[[np.ndarray, np.ndarray], float]
"""``metric(y_true, y_pred)`` on NumPy arrays, the whole dataset at once, to a number."""

Parameters: TypeAlias = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class TrainRow:
    """One line of a task's record: an epoch, or the whole task in step mode.

    Attributes:
        epoch: 1, 2, ...; 0 for the validation before training.
        steps: optimiser steps really run.
        seconds: time of these steps and of the validation after them.
        metrics: ``train_loss``, ``val_loss``, ``val_<metric>``, or ``pre_val_...`` in row 0.
        validation_seconds: the part of ``seconds`` that was validation.
        earlier: it was measured by an earlier attempt of the task, from whose checkpoint this one went on.
    """

    epoch: int
    steps: int
    seconds: float
    metrics: Mapping[str, float]
    validation_seconds: float = 0.0
    earlier: bool = False


@dataclass(frozen=True)
class TrainResult:
    """What one task's training did.

    Attributes:
        steps: optimiser steps really run.
        metrics: ``train_loss`` (mean over all steps of the task, each weighted by its batch's size),
            ``val_loss`` and ``val_<metric>`` (after training), ``pre_val_loss`` and ``pre_val_<metric>`` (of
            the received model). Only what was measured is there.
        rows: one per epoch, or one for the task in step mode; first the validation before training, if any.
    """

    steps: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows: tuple[TrainRow, ...] = ()


class BaseTrainer:
    """Trains one model on one client's data; a user's trainer derives from this or from ``VanillaTrainer``.

    Attributes:
        model, loss_fn, metric, train_dataset, val_dataset, train_configs, logger: as the constructor got
            them.
        seed: what the trainer's own randomness derives from; set for each task before ``train``.
        steps: a subclass may set it in ``train`` to the optimiser steps really run. None: they follow from
            the configuration.
        result: a subclass may set it in ``train`` to report metrics.
        step_watch: hears of every optimiser step; set for each task before ``train``.
    """

    seed: int = 0
    steps: int | None = None
    result: TrainResult | None = None
    step_watch: StepWatch | None = None

    def __init__(
        self,
        model: nn.Module | None = None,
        loss_fn: LossFn | None = None,
        metric: Metric | None = None,
        train_dataset: Any = None,
        val_dataset: Any = None,
        train_configs: DictConfig | Mapping[str, Any] | None = None,
        logger: Any = None,
        **kwargs: Any,
    ) -> None:
        self.model: Any = model
        self.loss_fn = loss_fn
        self.metric = metric
        self.train_dataset = train_dataset
        self.val_dataset = val_dataset
        self.train_configs: DictConfig = as_config(train_configs)
        self.logger = silent_logger() if logger is None else logger
        self._received: Parameters | None = None
        self.__dict__.update(kwargs)

    def train(self, **kwargs: Any) -> Any:
        """Train ``self.model``; a subclass defines it.

        Args:
            kwargs: ``round`` and what the scheduler asks for, such as ``local_steps`` and ``learning_rate``.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define train().")

    def get_parameters(self) -> dict[str, torch.Tensor] | tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The update: the model's tensors by name, on the CPU.

        With ``send_gradient: True`` the trainable kinds of tensors (``delta_names``) are received minus
        new; a subclass that overrides this does that subtraction itself. It may also return a pair of the
        tensors and a dict of metadata, whose numbers are reported as metrics. Values share memory with a
        model that is on the CPU already.

        Raises:
            UserCodeError: ``send_gradient`` is set and ``load_parameters`` of this class was never called.
        """
        return self._as_sent(cpu_state(self.model))

    def _as_sent(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """``state``, changed in place to differences where ``send_gradient`` asks for them."""
        if not self.train_configs.get("send_gradient"):
            return state
        received = self._took("send_gradient is True")
        for name in delta_names(self.model):
            state[name] = received[name].detach().cpu() - state[name]
        return state

    def _took(self, why: str) -> Parameters:
        """The received tensors, which ``why`` needs; raises ``UserCodeError`` where a subclass kept them away."""
        if self._received is None:
            raise UserCodeError(
                f"{why}, but {type(self).__name__} never took the received model.",
                "Call super().load_parameters(params) in load_parameters.",
            )
        return self._received

    def load_parameters(self, params: Parameters) -> None:
        """Put a received model's tensors into ``self.model``. ``params`` must stay as it is during the task.

        For a subclass that overrides this, ``self.model`` holds the received tensors before the constructor runs:
        a layer that it skips has the received values, never those of an earlier task.

        Raises:
            UserCodeError: a tensor is missing, extra or of another shape.
        """
        load_state(self.model, params)
        self._received = params

    def client_state(self) -> dict[str, torch.Tensor]:
        """What this client must remember until its next task, such as dual variables; asked after training.

        The site keeps it, apart from the update, and hands it to ``load_client_state`` of the client's next
        task, whichever worker or job that runs in. Nothing of it is sent. A trainer that overrides this has a
        state, also where it is empty. Values may share memory with the model.
        """
        return {}

    def load_client_state(self, state: Parameters) -> None:
        """Take the ``client_state`` of this client's last task whose update the server has accepted.

        Called after ``load_parameters``, and not at all for a client's first task or where the site has lost the
        state: then the trainer begins as in the first task. ``state`` must not be changed.
        """


def as_config(train_configs: DictConfig | Mapping[str, Any] | None) -> DictConfig:
    """``train_configs`` as the ``DictConfig`` that user code reads by attribute."""
    if isinstance(train_configs, DictConfig):
        return train_configs
    return OmegaConf.create(dict(train_configs or {}), flags={"allow_objects": True})


def silent_logger() -> logging.Logger:
    """A logger that belongs to nobody and writes nowhere."""
    logger = logging.Logger("appfl_gc.trainer")
    logger.addHandler(logging.NullHandler())
    return logger


def cpu_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of ``model.state_dict()`` in its order, on the CPU; no copy of those that are there."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def delta_names(model: nn.Module) -> tuple[str, ...]:
    """The tensors that ``send_gradient: True`` sends as differences: the floating parameters.

    Buffers and whole-number tensors are sent as values. A shared parameter has all its names. The order is
    the model's.
    """
    parameters = model.named_parameters(remove_duplicate=False)
    return tuple(name for name, parameter in parameters if parameter.is_floating_point())


def load_state(model: nn.Module, params: Parameters) -> None:
    """Copy ``params`` into ``model``, every tensor of it.

    Raises:
        UserCodeError: names the tensors that are missing, extra, or of another shape.
    """
    own = model.state_dict()
    problems = [f"{name} is missing" for name in own if name not in params]
    problems += [f"{name} is unknown to the model" for name in params if name not in own]
    problems += [
        f"{name} has shape {tuple(params[name].shape)}, the model's has {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in params and params[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserCodeError(
            f"The received model does not fit {type(model).__name__}: {'; '.join(problems[:5])}{more}.",
            "The server and this client must build the same model: check model_configs of this client.",
        )
    model.load_state_dict(dict(params))
