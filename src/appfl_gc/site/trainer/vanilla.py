"""The trainer that a configuration describes by keys alone: ``trainer: VanillaTrainer``."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.seeds import derive_seed
from appfl_gc.site.trainer.base import BaseTrainer, TrainResult, TrainRow
from appfl_gc.site.trainer.batches import batch_length, make_loader, split_batch, to_device
from appfl_gc.site.trainer.device import choose_devices
from appfl_gc.site.trainer.optimizer import make_optimizer
from appfl_gc.site.trainer.reader import ConfigReader
from appfl_gc.site.trainer.settings import VanillaSettings
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

    def train(self, **kwargs: Any) -> TrainResult:
        """Train ``self.model`` in place, and validate it as configured.

        Args:
            kwargs: ``round`` for the log; ``local_steps`` (optimiser steps, in any mode) and
                ``learning_rate`` take the place of the configured ones; others are ignored.

        Raises:
            UserCodeError: a key is missing or wrong, a device is absent, the data can't be used.
        """
        settings = self.read_settings(kwargs)
        self._check(settings)
        devices = choose_devices(settings.device)
        self.device = devices.first
        self.model.to(self.device)
        if isinstance(self.loss_fn, nn.Module):
            self.loss_fn.to(self.device)
        self.forward = nn.DataParallel(self.model, list(devices.parallel)) if devices.parallel else self.model
        loader = self._train_loader(settings)
        rows: list[TrainRow] = []

        def record(row: TrainRow) -> None:
            rows.append(row)
            self.logger.info(_line(kwargs.get("round", 0), row, settings))

        if settings.do_pre_validation:
            started = time.perf_counter()
            received = self._validate(settings, "pre_val_")
            spent = time.perf_counter() - started
            record(TrainRow(0, 0, spent, received, spent))
        optimizer = self.start_steps(settings)
        total = _Mean(self.device)
        for epoch, batches in enumerate(_epochs(loader, settings), 1):
            started, mean = time.perf_counter(), _Mean(self.device)
            self.model.train()
            for batch in batches:
                self._step(optimizer, batch, settings, mean)
            total.include(mean)
            metrics, trained = {"train_loss": mean.value}, time.perf_counter()
            if settings.do_validation:
                metrics.update(self._validate(settings, "val_"))
            ended = time.perf_counter()
            record(TrainRow(epoch, mean.steps, ended - started, metrics, ended - trained))
        measured = {name: value for row in rows for name, value in row.metrics.items()}
        self.steps = total.steps
        self.result = TrainResult(total.steps, {**measured, "train_loss": total.value}, tuple(rows))
        return self.result

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
        self, optimizer: torch.optim.Optimizer, batch: Any, settings: VanillaSettings, mean: _Mean
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


def _epochs(loader: DataLoader[Any], settings: VanillaSettings) -> Iterator[Iterator[Any]]:
    """The batches of each epoch; in step mode those of the whole task, over as many passes as they take."""
    if settings.steps is not None:
        passes = (_one_pass(loader) for _ in itertools.count())
        yield itertools.islice(itertools.chain.from_iterable(passes), settings.steps)
        return
    for _ in range(settings.epochs or 0):
        yield _one_pass(loader)


def _one_pass(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of one pass; none is an error, since steps would then be waited for without end."""
    empty = True
    for batch in loader:
        empty = False
        yield batch
    if empty:
        raise UserCodeError(
            "A pass over the training dataset gave no batch.",
            "Where it is an iterable dataset, let __iter__ start anew at each call and give as many samples as "
            "__len__ says.",
        )


class _Mean:
    """Mean loss over steps, weighted by batch size; summed on the device, so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sum = torch.zeros((), dtype=dtype, device=device)
        self._samples = 0
        self.steps = 0

    def add(self, loss: torch.Tensor, samples: int) -> None:
        self._sum += loss.detach().reshape(()) * samples
        self._samples += samples
        self.steps += 1

    def include(self, other: _Mean) -> None:
        self._sum += other._sum
        self._samples += other._samples
        self.steps += other.steps

    @property
    def value(self) -> float:
        return float(self._sum) / max(self._samples, 1)


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
