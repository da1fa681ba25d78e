"""One training task, from the received model to the update: what the site's trainer role calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.site.nearest_name import nearest_name
from appfl_gc.site.trainer.base import BaseTrainer, load_state, silent_logger
from appfl_gc.site.trainer.fedprox import FedProxTrainer
from appfl_gc.site.trainer.iceadmm import ICEADMMTrainer
from appfl_gc.site.trainer.iiadmm import IIADMMTrainer
from appfl_gc.site.trainer.random_state import deterministic_kernels, isolated
from appfl_gc.site.trainer.task import TrainOutcome, TrainTask
from appfl_gc.site.trainer.user_class import keeps_state, make_trainer, read_state, read_update, train_with
from appfl_gc.site.trainer.vanilla import VanillaTrainer
from appfl_gc.site.user_errors import user_errors

__all__ = ["TrainOutcome", "TrainTask", "check_trainer", "find_trainer", "run_trainer"]

_BUILT: dict[str, type[VanillaTrainer]] = {
    "VanillaTrainer": VanillaTrainer,
    "FedProxTrainer": FedProxTrainer,
    "IIADMMTrainer": IIADMMTrainer,
    "ICEADMMTrainer": ICEADMMTrainer,
}
_NOT_YET = (
    "MonaiTrainer",
    "LightningTrainer",
    "SklearnTrainer",
    "FedSBTrainer",
    "LLMDummyTrainer",
    "DIMATTrainer",
)


def run_trainer(task: TrainTask) -> TrainOutcome:
    """Load the received model, train it with seeded randomness, and return the update.

    The same task gives the same bits on the same type of machine with the same number of threads. The random
    generators and PyTorch's settings are afterwards as they were.

    Raises:
        UserCodeError: the configuration can't be carried out, the received model does not fit, or user code
            failed.
        NotSupportedError: the trainer is not built yet.
    """
    trainer_class = find_trainer(task.trainer)
    logger = silent_logger() if task.logger is None else task.logger
    with (
        isolated(task.seed),
        deterministic_kernels(),
        user_errors(f"{trainer_class.__name__} failed in round {task.round}"),
    ):
        if task.threads > 0:
            torch.set_num_threads(task.threads)
        if getattr(trainer_class, "load_parameters", None) is not BaseTrainer.load_parameters:
            # One of its own may skip layers, which must not keep what an earlier task left in the model.
            load_state(task.model, task.received)
        trainer = make_trainer(trainer_class, task, logger)
        trainer.load_parameters(task.received)
        keeps = keeps_state(trainer_class)
        if keeps and task.client_state is not None:
            trainer.load_client_state(task.client_state)
        steps = train_with(trainer, task)
        update = read_update(trainer, task)
        remembered = read_state(trainer) if keeps else None
    return TrainOutcome(
        update.state, update.deltas, steps, len(task.train_dataset), update.metrics, update.rows, remembered
    )


def find_trainer(trainer: str | type[Any]) -> type[Any]:
    """The class of the built-in trainer with this name; a class is returned as it is.

    Raises:
        UserCodeError: there is no such trainer.
        NotSupportedError: it is not built yet.
    """
    if isinstance(trainer, type):
        return trainer
    if trainer in _BUILT:
        return _BUILT[trainer]
    if trainer in _NOT_YET:
        raise NotSupportedError(
            f"trainer: {trainer} is not supported yet.", f"Supported: {', '.join(_BUILT)}."
        )
    near = nearest_name(trainer, [*_BUILT, *_NOT_YET])
    raise UserCodeError(
        f"trainer: there is no trainer {trainer!r}.",
        f"Did you mean {near}?" if near else "Name VanillaTrainer, or a class in the file of trainer_path.",
    )


def check_trainer(trainer: str | type[Any], model: nn.Module, train_configs: Mapping[str, Any]) -> None:
    """Try what a built-in trainer's steps need, without training; a user's class is not looked at.

    Raises:
        UserCodeError: a key is wrong, or the optimiser can't be made.
        NotSupportedError: the trainer is not built yet.
    """
    trainer_class = find_trainer(trainer)
    if trainer_class in _BUILT.values():
        trainer_class(model=model, train_configs=train_configs).check_steps()
