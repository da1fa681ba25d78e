"""Runs any class that has ``train``, ``get_parameters`` and ``load_parameters`` as a trainer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.base import (
    BaseTrainer,
    TrainResult,
    TrainRow,
    as_config,
    delta_names,
    silent_logger,
)
from appfl_gc.site.trainer.interruption import Interruption
from appfl_gc.site.trainer.reader import ConfigReader
from appfl_gc.site.trainer.step_watch import StepWatch, TaskStopped, watched_steps
from appfl_gc.site.trainer.task import TrainTask
from appfl_gc.site.user_errors import as_user_error

_METHODS = ("load_parameters", "train", "get_parameters")


@dataclass(frozen=True)
class Update:
    """What a trainer's ``get_parameters`` gave, in the form of ``TrainOutcome``."""

    state: dict[str, torch.Tensor]
    deltas: tuple[str, ...]
    metrics: dict[str, float]
    rows: tuple[TrainRow, ...]


def make_trainer(trainer_class: type[Any], task: TrainTask, logger: Any) -> Any:
    """An instance of a trainer class, made with the published keyword arguments that its constructor takes.

    Raises:
        UserCodeError: the constructor needs another argument, or a method is missing.
    """
    missing = [name for name in _METHODS if not callable(getattr(trainer_class, name, None))]
    if missing:
        raise UserCodeError(
            f"The trainer {trainer_class.__name__} has no method {', '.join(missing)}.",
            "Derive it from BaseTrainer, which has load_parameters and get_parameters, and define train.",
        )
    given = {
        "model": task.model,
        "loss_fn": task.loss_fn,
        "metric": task.metric,
        "train_dataset": task.train_dataset,
        "val_dataset": task.val_dataset,
        "train_configs": as_config(task.train_configs),
        "logger": logger,
    }
    accepted = _accepted(trainer_class, given)
    required = [
        parameter.name
        for parameter in inspect.signature(trainer_class).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        and parameter.name not in accepted
    ]
    if required:
        raise UserCodeError(
            f"The constructor of the trainer {trainer_class.__name__} needs {', '.join(required)}.",
            f"It can be given {', '.join(given)}.",
        )
    trainer = trainer_class(**accepted)
    if isinstance(trainer, BaseTrainer):
        trainer.seed = task.seed
    return trainer


def make_watch(trainer_class: type[Any], task: TrainTask) -> StepWatch:
    """What hears of the task's steps; raises ``UserCodeError`` where the configuration can't be understood."""
    settings = Interruption.read(ConfigReader(as_config(task.train_configs), trainer_class.__name__))
    checkpoint = task.checkpoint if goes_on(trainer_class) else None
    if checkpoint is not None:
        checkpoint.pace(settings.checkpoint_steps, settings.checkpoint_seconds)
    return StepWatch(task.stop, task.on_step, checkpoint, settings.keeps_part, _configured_steps(task))


def train_with(trainer: Any, task: TrainTask, watch: StepWatch) -> int:
    """Run ``trainer.train`` with the round and what the scheduler asks for, as far as it takes them.

    It ends early where ``watch`` is told to stop, which ``watch.reason`` then says.

    Returns:
        The optimiser steps: the trainer's attribute ``steps`` or ``result.steps``; without these, those that
        optimisers of ``torch.optim`` have taken; where there were none, those that the configuration asks for.
    """
    asked = {"round": task.round, **task.args}
    if isinstance(trainer, BaseTrainer):
        trainer.step_watch = watch
    with watched_steps(watch):
        try:
            trainer.train(**_accepted(trainer.train, asked))
        except TaskStopped:
            return watch.done
        except Exception as error:
            if watch.reason is None:
                raise
            # It need not be prepared for an early end, which is no fault of its own.
            _logger(task).warning(
                "After the task was stopped: %s", as_user_error(error, "train() failed").message
            )
            return watch.done
    result = _result(trainer)
    done = getattr(trainer, "steps", None) if result is None else result.steps
    if not isinstance(done, int) or isinstance(done, bool) or done < 0:
        done = watch.done or _configured_steps(task)
    wanted = task.args.get("local_steps")
    if wanted is not None and done != wanted and watch.reason is None:
        _logger(task).warning(
            "%s trained %d steps, and the scheduler asked for %s: train() gets local_steps as a keyword argument.",
            type(trainer).__name__,
            done,
            wanted,
        )
    return done


def _logger(task: TrainTask) -> Any:
    return silent_logger() if task.logger is None else task.logger


def read_update(trainer: Any, task: TrainTask) -> Update:
    """The update of a trained ``trainer``.

    Raises:
        UserCodeError: ``get_parameters`` returned something else than tensors by name, or these and a dict.
    """
    returned = trainer.get_parameters()
    metadata: Mapping[str, Any] = {}
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping):
        returned, metadata = returned
    name = type(trainer).__name__
    if not isinstance(returned, Mapping) or not returned:
        shape = "an empty dict" if isinstance(returned, Mapping) else type(returned).__name__
        raise UserCodeError(
            f"get_parameters() of the trainer {name} returned {shape}; expected a dict of tensors by name.",
            "Return self.model.state_dict(), or (self.model.state_dict(), metadata).",
        )
    hint = "Numbers for the log belong in a second dict: return (tensors, metadata)."
    state = {
        str(key): _tensor(value, f"get_parameters() of the trainer {name} gave {key!r}", hint)
        for key, value in returned.items()
    }
    order = task.model.state_dict().keys()
    if state.keys() == order:
        state = {key: state[key] for key in order}
    deltas: tuple[str, ...] = ()
    if task.train_configs.get("send_gradient"):
        deltas = tuple(key for key in delta_names(task.model) if key in state)
    result = _result(trainer)
    metrics = {} if result is None else dict(result.metrics)
    metrics.update(_numbers(metadata))
    return Update(state, deltas, metrics, () if result is None else result.rows)


def keeps_state(trainer_class: type[Any]) -> bool:
    """Whether a trainer class has a ``client_state`` of its own, which the site has to keep."""
    own = getattr(trainer_class, "client_state", None)
    takes = callable(getattr(trainer_class, "load_client_state", None))
    return callable(own) and takes and own is not BaseTrainer.client_state


def goes_on(trainer_class: type[Any]) -> bool:
    """Whether a task of a trainer class can go on from a checkpoint: see ``VanillaTrainer.checkpoint_state``."""
    for ancestor in trainer_class.__mro__:
        if "checkpoint_state" in vars(ancestor):
            return callable(getattr(trainer_class, "load_checkpoint_state", None))
        if not ancestor.__module__.startswith("appfl_gc."):
            return False
    return False


def read_state(trainer: Any) -> dict[str, torch.Tensor]:
    """What a trained ``trainer`` must remember: its ``client_state``, on the CPU.

    Raises:
        UserCodeError: it is something else than tensors by name.
    """
    returned = trainer.client_state()
    name = type(trainer).__name__
    if not isinstance(returned, Mapping):
        raise UserCodeError(
            f"client_state() of the trainer {name} returned {type(returned).__name__}; expected a dict of tensors "
            "by name.",
            "Return {} where there is nothing to remember.",
        )
    return {
        str(key): _tensor(
            value, f"client_state() of the trainer {name} gave {key!r}", "Make it one: torch.tensor(...)."
        )
        for key, value in returned.items()
    }


def _result(trainer: Any) -> TrainResult | None:
    result = getattr(trainer, "result", None)
    return result if isinstance(result, TrainResult) else None


def _accepted(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(given)
    return {name: value for name, value in given.items() if name in parameters}


def _configured_steps(task: TrainTask) -> int:
    configs = as_config(task.train_configs)
    local_steps = task.args.get("local_steps", configs.get("num_local_steps"))
    if isinstance(local_steps, int) and ("local_steps" in task.args or configs.get("mode") != "epoch"):
        return local_steps
    epochs, batch = configs.get("num_local_epochs"), configs.get("train_batch_size", 32)
    if isinstance(epochs, int) and isinstance(batch, int) and batch > 0:
        return epochs * math.ceil(len(task.train_dataset) / batch)
    return 0


def _tensor(value: object, what: str, hint: str) -> torch.Tensor:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    raise UserCodeError(f"{what} as {type(value).__name__}, not a tensor.", hint)


def _numbers(metadata: Mapping[str, Any]) -> dict[str, float]:
    """The entries of ``metadata`` that are single numbers."""
    numbers: dict[str, float] = {}
    for name, value in metadata.items():
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            value = value.item() if np.prod(value.shape) == 1 else None
        if isinstance(value, int | float):
            numbers[str(name)] = float(value)
    return numbers
