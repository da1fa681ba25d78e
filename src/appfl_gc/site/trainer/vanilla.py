"""The trainer that a configuration describes by keys alone: ``trainer: VanillaTrainer``."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.site.checkpoints import CheckpointUnfitError
from appfl_gc.site.trainer import dataset_state
from appfl_gc.site.trainer.base import BaseTrainer, TrainResult, TrainRow
from appfl_gc.site.trainer.batch_stream import BatchStream
from appfl_gc.site.trainer.batches import batch_length, make_loader, split_batch, to_device
from appfl_gc.site.trainer.device import choose_devices
from appfl_gc.site.trainer.optimizer import make_optimizer
from appfl_gc.site.trainer.progress import Mean, Progress
from appfl_gc.site.trainer.random_state import generator_states, set_generators
from appfl_gc.site.trainer.reader import ConfigReader
from appfl_gc.site.trainer.restoring import model_state, restore_model, restore_optimizer
from appfl_gc.site.trainer.settings import VanillaSettings
from appfl_gc.site.trainer.step_watch import StepWatch
from appfl_gc.site.trainer.validation import validate


class VanillaTrainer(BaseTrainer):
    """Local training with a ``torch.optim`` optimiser, by epochs or by steps.

    The local part of Federated Averaging (McMahan et al. 2017, arXiv:1602.05629, Algorithm 1, ClientUpdate),
    with any optimiser, which starts anew in every task.

    Attributes:
        forward: computes outputs, ``forward(inputs)``: the model, or its parallel wrapper.
        device: where the model and the batches are.
    """

    forward: Callable[[Any], Any]
    device: torch.device

    def batch_loss(self, inputs: Any, targets: Any) -> torch.Tensor:
        """The scalar loss of one batch; a subclass may add terms to it."""
        if self.loss_fn is None:
            raise UserCodeError("The trainer has no loss.", "Set loss_fn (a torch.nn name) or loss_fn_path.")
        return self.loss_fn(self.forward(inputs), targets)

    def read_settings(self, asked: Mapping[str, Any]) -> VanillaSettings:
        """The task's settings, with what the scheduler ``asked`` for; raises ``UserCodeError``."""
        return VanillaSettings.read(self.train_configs, asked, type(self).__name__)

    def check_steps(self) -> None:
        """Try what ``start_steps`` will need, as far as that is configured; raises ``UserCodeError``."""
        read = ConfigReader(self.train_configs, type(self).__name__)
        name = read.text("optim", "")
        if name:
            make_optimizer(self.model, name, read.mapping("optim_args"))

    def start_steps(self, settings: VanillaSettings) -> torch.optim.Optimizer:
        """What takes the steps of this task.

        Called once, before the first step, with ``self.model`` as it was received and on ``self.device``.

        Raises:
            UserCodeError: see ``make_optimizer``.
        """
        return make_optimizer(self.model, settings.optim, settings.optim_args)

    def checkpoint_state(self) -> dict[str, Any]:
        """What an interrupted task needs to go on, beside model, loss, optimiser, data and random generators.

        Asked between two steps. A class in a user's file goes on from checkpoints if it defines this, and begins anew
        if it does not, since nobody else knows what it has changed in itself. Tensors, numbers and texts in dicts,
        lists and tuples; the tensors may share memory with the model.
        """
        return {}

    def load_checkpoint_state(self, state: Mapping[str, Any]) -> None:
        """Take what ``checkpoint_state`` gave in an earlier attempt of this task; called after ``start_steps``."""

    def train(self, **kwargs: Any) -> TrainResult:
        """Train ``self.model`` in place, and validate it as configured.

        Goes on from the checkpoint of an earlier attempt, with the same bits; ends early where it is stopped, then
        without validation.

        Args:
            kwargs: ``round`` for the log; ``local_steps`` (optimiser steps, in any mode) and
                ``learning_rate`` take the place of the configured ones; others are ignored.

        Raises:
            UserCodeError: a key is missing or wrong, a device is absent, the data can't be used.
            CheckpointUnfitError: model, data or optimiser are not what they were at the checkpoint.
        """
        settings = self.read_settings(kwargs)
        self._check(settings)
        devices = choose_devices(settings.device)
        self.device = devices.first
        self.model.to(self.device)
        if isinstance(self.loss_fn, nn.Module):
            self.loss_fn.to(self.device)
        self.forward = nn.DataParallel(self.model, list(devices.parallel)) if devices.parallel else self.model
        stream = BatchStream(self._train_loader(settings))
        watch = self.step_watch or StepWatch()
        watch.graceful = True
        watch.planned = settings.steps or (settings.epochs or 0) * len(stream)
        progress = Progress(self.device)
        saved = None if watch.checkpoint is None else watch.checkpoint.load()
        round_ = kwargs.get("round", 0)
        if settings.do_pre_validation and saved is None:
            started = time.perf_counter()
            received = self._validate(settings, "pre_val_")
            spent = time.perf_counter() - started
            self._record(TrainRow(0, 0, spent, received, spent), progress, settings, round_)
        work = _Work(settings, stream, self.start_steps(settings), progress, watch)
        if saved is not None:
            try:
                self._continue(saved, work)
            except (LookupError, TypeError, ValueError, RuntimeError) as error:
                raise CheckpointUnfitError(f"It does not fit: {type(error).__name__}: {error}") from error
            watch.before = progress.steps
        more = True
        while more:
            row, more = self._epoch(work)
            if row is not None:
                self._record(row, progress, settings, round_)
                progress.end_epoch()
        measured = {name: value for row in progress.rows for name, value in row.metrics.items()}
        self.steps = progress.steps
        train_loss = progress.total.value
        self.result = TrainResult(self.steps, {**measured, "train_loss": train_loss}, tuple(progress.rows))
        return self.result

    def _epoch(self, work: _Work) -> tuple[TrainRow | None, bool]:
        """The current epoch, with the validation after it: its row, if it counts, and whether another one follows."""
        settings, progress, watch = work.settings, work.progress, work.watch
        started = time.perf_counter() - progress.seconds
        self.model.train()
        for batch in _batches(work.stream, settings, progress):
            self._step(work.optimizer, batch, settings, progress.mean)
            self._keep(work, started)
            if watch.reason is not None:
                break
        metrics, trained = {"train_loss": progress.mean.value}, time.perf_counter()
        if settings.do_validation and watch.reason is None:
            # Who wants the task to end has no time for validation.
            if watch.ask():
                self._keep(work, started)
            else:
                metrics.update(self._validate(settings, "val_"))
        if watch.reason is not None and not watch.sends_part:
            return None, False
        ended = time.perf_counter()
        row = TrainRow(progress.epoch, progress.mean.steps, ended - started, metrics, ended - trained)
        return row, watch.reason is None and progress.epoch < (settings.epochs or 1)

    def _record(self, row: TrainRow, progress: Progress, settings: VanillaSettings, round_: object) -> None:
        progress.rows.append(row)
        self.logger.info(_line(round_, row, settings))

    def _keep(self, work: _Work, started: float) -> None:
        """Write a checkpoint if it is time for one; ``started`` is when the epoch would have, without a break."""
        checkpoint, progress = work.watch.checkpoint, work.progress
        if checkpoint is not None and work.watch.wants_checkpoint:
            progress.seconds = time.perf_counter() - started
            checkpoint.save(self._snapshot(work), progress.steps)

    def _snapshot(self, work: _Work) -> dict[str, Any]:
        """Everything that the next step and what follows it depend on."""
        return {
            "samples": len(self.train_dataset),
            "model": model_state(self.model),
            "loss": model_state(self.loss_fn) if isinstance(self.loss_fn, nn.Module) else None,
            "optimizer": work.optimizer.state_dict(),
            "trainer": self.checkpoint_state(),
            "progress": work.progress.state(),
            "batches": work.stream.place(),
            "datasets": dataset_state.current(self.train_dataset, self.val_dataset),
            "process": generator_states(),
        }

    def _continue(self, saved: Mapping[str, Any], work: _Work) -> None:
        """Be where ``_snapshot`` was taken; raises ``CheckpointUnfitError``."""
        if saved["samples"] != len(self.train_dataset):
            raise CheckpointUnfitError(
                f"The training dataset has {len(self.train_dataset)} samples, and had {saved['samples']}."
            )
        work.stream.go_on(saved["batches"])
        restore_optimizer(work.optimizer, saved["optimizer"])
        restore_model(self.model, saved["model"])
        if isinstance(self.loss_fn, nn.Module) and saved["loss"] is not None:
            restore_model(self.loss_fn, saved["loss"])
        self.load_checkpoint_state(saved["trainer"])
        work.progress.go_on(saved["progress"])
        dataset_state.put_back(saved["datasets"], self.train_dataset, self.val_dataset)
        set_generators(saved["process"])

    def _check(self, settings: VanillaSettings) -> None:
        if self.model is None or self.loss_fn is None:
            missing = "model" if self.model is None else "loss"
            raise UserCodeError(
                f"{type(self).__name__} needs a {missing}.",
                "Set model_configs.model_path."
                if self.model is None
                else "Set train_configs.loss_fn or loss_fn_path.",
            )
        size = 0 if self.train_dataset is None else len(self.train_dataset)
        if size == 0:
            raise UserCodeError("The training dataset is empty.", "Check dataset_kwargs of this client.")
        if settings.train_drop_last and size < settings.train_batch_size:
            raise UserCodeError(
                f"The training dataset has {size} samples, fewer than one batch of "
                f"{settings.train_batch_size}, and train_drop_last is True: no batch is left.",
                "Set train_drop_last: False or a smaller train_batch_size.",
            )
        wanted = [key for key in ("do_validation", "do_pre_validation") if getattr(settings, key)]
        if wanted and (self.val_dataset is None or len(self.val_dataset) == 0):
            raise UserCodeError(
                f"{' and '.join(f'{key}: True' for key in wanted)} needs validation data, and there is none.",
                "Let the dataset function return (train_dataset, val_dataset) with samples in both, or set "
                f"{' and '.join(f'{key}: False' for key in wanted)}.",
            )

    def _train_loader(self, settings: VanillaSettings) -> DataLoader[Any]:
        return make_loader(
            self.train_dataset,
            batch_size=settings.train_batch_size,
            shuffle=settings.train_data_shuffle,
            seed=derive_seed(self.seed, 0, "", "train order"),
            num_workers=settings.num_workers,
            drop_last=settings.train_drop_last,
        )

    def _step(
        self, optimizer: torch.optim.Optimizer, batch: Any, settings: VanillaSettings, mean: Mean
    ) -> None:
        inputs, targets = to_device(split_batch(batch), self.device)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = self.batch_loss(inputs, targets)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                shape = type(loss).__name__
                if isinstance(loss, torch.Tensor):
                    shape = f"a tensor of shape {tuple(loss.shape)}"
                raise UserCodeError(
                    f"The loss of a batch is {shape}; expected a tensor with one number.",
                    "Take the mean over the batch in the loss function.",
                )
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_value is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_value, settings.clip_norm)
            return loss

        # A closure serves the optimisers that evaluate the loss several times in a step, such as LBFGS.
        loss: Any = optimizer.step(closure)  # type: ignore[arg-type]
        mean.add(loss, batch_length(targets, inputs))

    def _validate(self, settings: VanillaSettings, prefix: str) -> dict[str, float]:
        loader = make_loader(
            self.val_dataset,
            batch_size=settings.val_batch_size,
            shuffle=settings.val_data_shuffle,
            seed=derive_seed(self.seed, 0, "", "validation order"),
            num_workers=settings.num_workers,
        )
        return validate(self.forward, self.model, self.loss_fn, self.metric, loader, self.device, prefix)


@dataclass(frozen=True)
class _Work:
    """What a task of ``VanillaTrainer`` is made of."""

    settings: VanillaSettings
    stream: BatchStream
    optimizer: torch.optim.Optimizer
    progress: Progress
    watch: StepWatch


def _batches(stream: BatchStream, settings: VanillaSettings, progress: Progress) -> Iterator[Any]:
    """The batches of an epoch that are left; in step mode those of the task, over as many passes as they take."""
    if settings.steps is not None:
        return itertools.islice(stream.passes(), settings.steps - progress.steps)
    return stream.one_pass()


def _line(round_: object, row: TrainRow, settings: VanillaSettings) -> str:
    if row.epoch == 0:
        part = "received"
    elif settings.epochs is None:
        part = "task"
    else:
        part = f"epoch {row.epoch}/{settings.epochs}"
    columns = [f"round {round_:>4}", f"{part:<12}", f"{row.steps:>6} steps", f"{row.seconds:>9.2f} s"]
    columns += [f"{name} {value:>10.4f}" for name, value in row.metrics.items()]
    return "  ".join(columns)
