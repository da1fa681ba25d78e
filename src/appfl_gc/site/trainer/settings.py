"""The keys of ``train_configs`` that ``VanillaTrainer`` and the trainers made from it read, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.reader import ConfigReader


@dataclass(frozen=True)
class VanillaSettings:
    """One task's settings.

    Attributes:
        steps: optimiser steps of the task, or None in epoch mode.
        epochs: passes over the training data, or None in step mode.
        optim: a name in ``torch.optim``, empty for a trainer that brings its own steps; ``optim_args`` its
            keyword arguments.
        do_pre_validation: validate the received model before training, in this task.
        clip_value: bound of the gradient's norm, or None for no clipping; ``clip_norm`` is the norm's type p.
    """

    steps: int | None
    epochs: int | None
    optim: str
    optim_args: Mapping[str, Any] = field(default_factory=dict)
    do_validation: bool = False
    do_pre_validation: bool = False
    train_batch_size: int = 32
    val_batch_size: int = 32
    train_data_shuffle: bool = True
    val_data_shuffle: bool = False
    num_workers: int = 0
    train_drop_last: bool = False
    device: str = "cpu"
    send_gradient: bool = False
    clip_value: float | None = None
    clip_norm: float = 2.0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UserCodeError(f"A task of {self.steps} steps was asked for; at least 1 is needed.")

    @classmethod
    def read(
        cls,
        configs: DictConfig,
        asked: Mapping[str, Any],
        trainer: str = "VanillaTrainer",
        *,
        needs_optim: bool = True,
    ) -> VanillaSettings:
        """The settings of ``configs``, with what the scheduler ``asked`` for.

        ``local_steps`` sets the steps, in epoch mode too; ``learning_rate`` replaces ``optim_args.lr``;
        with ``pre_validation_interval: n`` only rounds 1, n + 1, 2n + 1 ... validate before training.

        Raises:
            UserCodeError: a key is missing or has a value that can't be used.
        """
        read = ConfigReader(configs, trainer)
        steps, epochs = _amount(read, asked)
        optim_args = read.mapping("optim_args")
        learning_rate = asked.get("learning_rate")
        if learning_rate is not None:
            optim_args["lr"] = float(learning_rate)
        clip = read.flag("clip_grad", False)
        return cls(
            steps=steps,
            epochs=epochs,
            optim=read.text("optim") if needs_optim else read.text("optim", ""),
            optim_args=optim_args,
            do_validation=read.flag("do_validation", False),
            do_pre_validation=_validates_before(read, asked),
            train_batch_size=read.whole("train_batch_size", 32, at_least=1),
            val_batch_size=read.whole("val_batch_size", 32, at_least=1),
            train_data_shuffle=read.flag("train_data_shuffle", True),
            val_data_shuffle=read.flag("val_data_shuffle", False),
            num_workers=read.whole("num_workers", 0, at_least=0),
            train_drop_last=read.flag("train_drop_last", False),
            device=read.text("device", "cpu"),
            send_gradient=read.flag("send_gradient", False),
            clip_value=read.number("clip_value") if clip else None,
            clip_norm=read.number("clip_norm", 2.0, finite=False),
        )


def _amount(read: ConfigReader, asked: Mapping[str, Any]) -> tuple[int | None, int | None]:
    local_steps = asked.get("local_steps")
    if local_steps is not None:
        if isinstance(local_steps, bool) or not isinstance(local_steps, int) or local_steps < 1:
            raise UserCodeError(f"The scheduler asked for {local_steps!r} local steps; at least 1 is needed.")
        return local_steps, None
    mode = read.text("mode")
    if mode == "step":
        return read.whole("num_local_steps", at_least=1), None
    if mode == "epoch":
        return None, read.whole("num_local_epochs", at_least=1)
    raise UserCodeError(
        f"train_configs.mode is {mode!r}.", "It is step (with num_local_steps) or epoch (num_local_epochs)."
    )


def _validates_before(read: ConfigReader, asked: Mapping[str, Any]) -> bool:
    interval = read.whole("pre_validation_interval", 1, at_least=1)
    number = asked.get("round")
    first = 1 if not isinstance(number, int) else max(number, 1)
    return read.flag("do_pre_validation", False) and (first - 1) % interval == 0
