"""What a training task is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from appfl_gc.site.checkpoints import Checkpointer
from appfl_gc.site.stopping import NeverStop, StopReason, StopSignal
from appfl_gc.site.trainer.base import LossFn, Metric, TrainRow


@dataclass
class TrainTask:
    """One client's work in one round.

    Attributes:
        model: built model whose tensors may be overwritten; it is trained in place.
        train_dataset: a torch Dataset; ``val_dataset`` another, or None.
        train_configs: the client's effective ``train_configs``, not changed.
        received: the global model, every tensor of the model's ``state_dict`` by name; not changed, and
            needed until ``run_trainer`` has returned.
        loss_fn: ``loss(output, target)``, or None where the trainer brings its own.
        metric: ``metric(y_true, y_pred)``, or None.
        trainer: a trainer's name, or the class from the user's ``trainer_path``.
        seed: what all randomness of the task derives from.
        round: the round's number.
        args: what the scheduler asks for: ``local_steps``, ``learning_rate``.
        threads: CPU threads of tensor operations; 0 leaves them as they are.
        logger: gets one line per epoch (per task in step mode).
        client_state: what the client's trainer remembered (``BaseTrainer.client_state``), not changed; None for its
            first task, or where that was lost.
        stop: asked after every step.
        checkpoint: where the task goes on if it was interrupted, and what it writes while it works; None for a task
            that begins anew each time.
        on_step: told after every step how many steps of the task are done, and how many there are (0: unknown). It
            must take no time.
    """

    model: nn.Module
    train_dataset: Any
    val_dataset: Any
    train_configs: Mapping[str, Any]
    received: Mapping[str, torch.Tensor]
    loss_fn: LossFn | None = None
    metric: Metric | None = None
    trainer: str | type[Any] = "VanillaTrainer"
    seed: int = 0
    round: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)
    logger: Any = None
    threads: int = 0
    client_state: Mapping[str, torch.Tensor] | None = None
    stop: StopSignal = field(default_factory=NeverStop)
    checkpoint: Checkpointer | None = None
    on_step: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class TrainOutcome:
    """One task's update.

    Attributes:
        state: the update's tensors on the CPU, in the model's order. Values may share memory with the task's
            model: encode them before the model is used again. Empty where the task was stopped and nothing of it is
            to be sent (see ``answers``).
        deltas: names of the tensors that are received minus new (``send_gradient: True``).
        steps: optimiser steps really run, those of earlier attempts included.
        sample_size: training samples of the client.
        metrics: see ``TrainResult``; for a user's trainer also the numbers of its metadata.
        rows: see ``TrainResult``.
        client_state: what the trainer must remember until the client's next task; None for a trainer without such
            a state. Values may share memory with the model, as those of ``state``.
        stopped: why it ended before its last step; None if it did not.
        share: in (0, 1], the part of the task's steps that was done; 0 where that is not known, and nothing is sent.
        checkpoint_steps: steps in the checkpoint that a later attempt goes on from; 0: it begins anew.
        steps_before: those of ``steps`` that an earlier attempt had done.
    """

    state: dict[str, torch.Tensor]
    deltas: tuple[str, ...]
    steps: int
    sample_size: int
    metrics: dict[str, float]
    rows: tuple[TrainRow, ...] = ()
    client_state: dict[str, torch.Tensor] | None = None
    stopped: StopReason | None = None
    share: float = 1.0
    checkpoint_steps: int = 0
    steps_before: int = 0

    @property
    def answers(self) -> bool:
        """Whether there is an update to send; if not, ``stopped`` says why, and ``state`` is empty."""
        return self.stopped is None or bool(self.state)

    @property
    def validation_seconds(self) -> float:
        """Time that this attempt spent on validation."""
        return sum(row.validation_seconds for row in self.rows if not row.earlier)
