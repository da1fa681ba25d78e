"""One training task, from the received model to the update: what the site's trainer role calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.site.checkpoints import CheckpointUnfitError
from appfl_gc.site.nearest_name import nearest_name
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.trainer import dataset_state
from appfl_gc.site.trainer.base import BaseTrainer, load_state, silent_logger
from appfl_gc.site.trainer.fedprox import FedProxTrainer
from appfl_gc.site.trainer.iceadmm import ICEADMMTrainer
from appfl_gc.site.trainer.iiadmm import IIADMMTrainer
from appfl_gc.site.trainer.random_state import deterministic_kernels, isolated
from appfl_gc.site.trainer.step_watch import StepWatch
from appfl_gc.site.trainer.task import TrainOutcome, TrainTask
from appfl_gc.site.trainer.user_class import (
    keeps_state,
    make_trainer,
    make_watch,
    read_state,
    read_update,
    train_with,
)
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

    The same task gives the same bits on the same type of machine with the same number of threads, in one attempt or
    in several that go on from each other's checkpoints. The random generators and PyTorch's settings are afterwards
    as they were. Where ``task.stop`` ends it early, ``TrainOutcome.answers`` says whether there is an update.

    Raises:
        UserCodeError: the configuration can't be carried out, the received model does not fit, or user code
            failed.
        NotSupportedError: the trainer is not built yet.
    """
    put_back = dataset_state.capture(task.train_dataset, task.val_dataset)
    try:
        return _attempt(task)
    except CheckpointUnfitError as error:
        if task.checkpoint is None:
            raise
        task.checkpoint.reject(error.message)
    put_back()
    return _attempt(task)


def _attempt(task: TrainTask) -> TrainOutcome:
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
        if keeps_state(trainer_class) and task.client_state is not None:
            trainer.load_client_state(task.client_state)
        watch = make_watch(trainer_class, task)
        steps = train_with(trainer, task, watch)
        if watch.reason is None:
            return _outcome(trainer, task, steps, watch)
        logger.info(_why(watch))
        if watch.sends_part:
            try:
                with user_errors(f"{trainer_class.__name__} gave no update"):
                    return _outcome(trainer, task, steps, watch)
            except UserCodeError as error:
                # It was ended in the middle of train(), which it need not be prepared for.
                logger.warning("The part that was trained can't be sent. %s", error.message)
    return replace(_NOTHING, steps=steps, sample_size=len(task.train_dataset), **_ended(watch))


_NOTHING = TrainOutcome({}, (), 0, 0, {})


def _outcome(trainer: Any, task: TrainTask, steps: int, watch: StepWatch) -> TrainOutcome:
    update = read_update(trainer, task)
    remembered = read_state(trainer) if keeps_state(type(trainer)) else None
    size = len(task.train_dataset)
    return TrainOutcome(
        update.state,
        update.deltas,
        steps,
        size,
        update.metrics,
        update.rows,
        remembered,
        **_ended(watch),
    )


def _ended(watch: StepWatch) -> dict[str, Any]:
    """What an outcome says of how the task ended."""
    share = 1.0 if watch.reason is None else watch.share
    return {
        "stopped": watch.reason,
        "share": share or 0.0,
        "checkpoint_steps": 0 if watch.checkpoint is None else watch.checkpoint.steps,
        "steps_before": watch.before,
    }


def _why(watch: StepWatch) -> str:
    of = f" of {watch.planned}" if watch.planned else ""
    why = "its job ends" if watch.reason is StopReason.WALLTIME else "nobody waits for it any more"
    kept = 0 if watch.checkpoint is None else watch.checkpoint.steps
    if watch.sends_part:
        then = "what is trained is sent"
    elif kept:
        then = f"a later attempt goes on after step {kept}"
    else:
        then = "a later attempt begins anew"
    return f"The task stopped after {watch.done}{of} steps, since {why}; {then}."


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
