"""The keys of ``train_configs`` that ``VanillaTrainer`` reads, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from appfl_gc.protocol.errors import UserCodeError

_MISSING = object()


@dataclass(frozen=True)
class VanillaSettings:
    """One task's settings.

    Attributes:
        steps: optimiser steps of the task, or None in epoch mode.
        epochs: passes over the training data, or None in step mode.
        optim: a name in ``torch.optim``; ``optim_args`` its keyword arguments.
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
    def read(cls, configs: DictConfig, asked: Mapping[str, Any]) -> VanillaSettings:
        """The settings of ``configs``, with what the scheduler ``asked`` for.

        ``local_steps`` sets the steps, in epoch mode too; ``learning_rate`` replaces ``optim_args.lr``.

        Raises:
            UserCodeError: a key is missing or has a value that can't be used.
        """
        read = _Reader(configs)
        steps, epochs = _amount(read, asked)
        optim_args = read.mapping("optim_args")
        learning_rate = asked.get("learning_rate")
        if learning_rate is not None:
            optim_args["lr"] = float(learning_rate)
        clip = read.flag("clip_grad", False)
        return cls(
            steps=steps,
            epochs=epochs,
            optim=read.text("optim"),
            optim_args=optim_args,
            do_validation=read.flag("do_validation", False),
            do_pre_validation=read.flag("do_pre_validation", False),
            train_batch_size=read.whole("train_batch_size", 32, at_least=1),
            val_batch_size=read.whole("val_batch_size", 32, at_least=1),
            train_data_shuffle=read.flag("train_data_shuffle", True),
            val_data_shuffle=read.flag("val_data_shuffle", False),
            num_workers=read.whole("num_workers", 0, at_least=0),
            train_drop_last=read.flag("train_drop_last", False),
            device=read.text("device", "cpu"),
            send_gradient=read.flag("send_gradient", False),
            clip_value=read.number("clip_value") if clip else None,
            clip_norm=read.number("clip_norm", 2.0),
        )


def _amount(read: _Reader, asked: Mapping[str, Any]) -> tuple[int | None, int | None]:
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


class _Reader:
    """Typed access to a configuration; null counts as absent."""

    def __init__(self, configs: DictConfig) -> None:
        self._configs = configs

    def _get(self, key: str, default: object) -> Any:
        value = self._configs.get(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise UserCodeError(f"train_configs.{key} is missing; VanillaTrainer needs it.")
        return default

    def text(self, key: str, default: object = _MISSING) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise _wrong(key, value, "text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise _wrong(key, value, "True or False")
        return value

    def whole(self, key: str, default: object = _MISSING, *, at_least: int) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise _wrong(key, value, f"a whole number of at least {at_least}")
        return value

    def number(self, key: str, default: object = _MISSING) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise _wrong(key, value, "a number above 0")
        return float(value)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._get(key, DictConfig({}))
        if not isinstance(value, DictConfig):
            raise _wrong(key, value, "keys with values")
        plain = OmegaConf.to_container(value, resolve=True)
        return {str(name): item for name, item in plain.items()} if isinstance(plain, dict) else {}


def _wrong(key: str, value: object, expected: str) -> UserCodeError:
    return UserCodeError(f"train_configs.{key} is {value!r}; expected {expected}.")
