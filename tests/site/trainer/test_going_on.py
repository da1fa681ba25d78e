"""A task that was interrupted ends with the bits of one that was not."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from appfl_gc.site.trainer.run import TrainTask
from appfl_gc.site.trainer.vanilla import VanillaTrainer
from tests.site.trainer.conftest import Net, samples
from tests.site.trainer.interrupting import (
    Killed,
    bits,
    checkpoint_in,
    interrupted,
    stopped_after,
    tried_again,
    uninterrupted,
)
from tests.site.trainer.samples import RandomDataset

EPOCHS = {"mode": "epoch", "num_local_epochs": 3, "do_validation": True}
ADMM: dict[str, Any] = {
    "init_penalty": 1.0,
    "init_proximity": 9.0,
    "residual_balancing": {"res_on_every_update": True},
}
TRAINERS = {
    "VanillaTrainer": {},
    "FedProxTrainer": {"mu": 0.5},
    "IIADMMTrainer": {**ADMM, "optim_args": {"momentum": 0.9, "weight_decay": 0.01}},
    "ICEADMMTrainer": ADMM,
}
OPTIMISERS: dict[str, dict[str, Any]] = {
    "Adam": {"lr": 0.01},
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "LBFGS": {"lr": 0.1, "max_iter": 3},
    "NAdam": {"lr": 0.01},
    "Rprop": {"lr": 0.01},
    "Adagrad": {"lr": 0.01},
}


class OwnGenerators(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples with noise from random generators of the dataset's own."""

    def __init__(self) -> None:
        self.numpy, self.python = np.random.default_rng(1), random.Random(2)
        self.torch = torch.Generator().manual_seed(3)

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(4, generator=self.torch) + self.python.random() + float(self.numpy.random())
        return noise + index, torch.tensor(index % 3)


class Mixed(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """A stream in an order that Python's global generator gives."""

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        data = samples(24, 5)
        order = list(range(24))
        random.shuffle(order)
        return (data[index] for index in order)


class Endless(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """A stream that never gives again what it gave."""

    given = 0

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(24):
            type(self).given += 1
            yield torch.full((4,), float(self.given)), torch.tensor(self.given % 3)


@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_interruptions_change_nothing(make_task: Any, data: st.DataObject) -> None:
    trainer = data.draw(st.sampled_from(list(TRAINERS)))
    optim = data.draw(st.sampled_from(list(OPTIMISERS)))
    amount = data.draw(
        st.sampled_from([EPOCHS, {"mode": "step", "num_local_steps": 8, "do_validation": True}])
    )
    source = data.draw(st.sampled_from([lambda: samples(20, 1), RandomDataset, OwnGenerators, Mixed]))
    configs = {
        "optim": optim,
        "optim_args": OPTIMISERS[optim],
        "train_data_shuffle": data.draw(st.booleans()),
        "val_data_shuffle": data.draw(st.booleans()),
        "train_drop_last": data.draw(st.booleans()),
        "do_pre_validation": data.draw(st.booleans()),
        "clip_grad": data.draw(st.booleans()),
        "send_gradient": data.draw(st.booleans()),
        **amount,
        **TRAINERS[trainer],
    }

    def make() -> TrainTask:
        task: TrainTask = make_task(
            configs, trainer=trainer, train_dataset=source(), val_dataset=OwnGenerators()
        )
        return task

    whole = uninterrupted(make())
    stops = data.draw(st.lists(st.integers(1, whole.steps - 1), unique=True, max_size=3).map(sorted))
    with tempfile.TemporaryDirectory() as directory:
        assert bits(interrupted(make, stops, Path(directory))) == bits(whole)


@pytest.mark.parametrize("source", [RandomDataset, OwnGenerators, Mixed])
def test_worker_processes_of_the_loader_change_nothing(
    make_task: Any, tmp_path: Path, source: type[Any]
) -> None:
    def make() -> TrainTask:
        task: TrainTask = make_task(
            {"num_workers": 2, "mode": "epoch", "num_local_epochs": 2},
            train_dataset=source(),
            val_dataset=None,
        )
        return task

    whole = uninterrupted(make())
    assert bits(interrupted(make, [2, whole.steps - 1], tmp_path)) == bits(whole)


def test_after_a_kill_the_last_checkpoint_is_gone_on_from(make_task: Any, tmp_path: Path) -> None:
    configs = {"num_local_steps": 12, "checkpoint_steps": 3, "checkpoint_seconds": 0}
    whole = uninterrupted(make_task(configs))
    for killed, kept in ((2, 0), (8, 6), (11, 9)):
        with pytest.raises(Killed):
            stopped_after(make_task(configs), killed, tmp_path, why=None)
        assert checkpoint_in(tmp_path).kept_steps() == kept
    again = tried_again(make_task(configs), tmp_path)
    assert again.steps_before == 9
    assert bits(again) == bits(whole)


def test_how_often_is_asked_for_in_seconds_too(make_task: Any, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        stopped_after(make_task({"checkpoint_seconds": 0}), 4, tmp_path, why=None)
    assert checkpoint_in(tmp_path).kept_steps() == 0
    with pytest.raises(Killed):
        stopped_after(make_task({"checkpoint_seconds": 1e-9}), 4, tmp_path, why=None)
    assert checkpoint_in(tmp_path).kept_steps() == 3


def test_what_was_validated_before_is_not_validated_again(make_task: Any, tmp_path: Path) -> None:
    calls = []

    def metric(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        calls.append(len(y_true))
        return 0.5

    configs = {**EPOCHS, "do_pre_validation": True}
    stopped_after(make_task(configs, metric=metric), 7, tmp_path)
    assert len(calls) == 2
    outcome = tried_again(make_task(configs, metric=metric), tmp_path)
    assert len(calls) == 4
    assert [row.earlier for row in outcome.rows] == [True, True, False, False]
    own = sum(row.validation_seconds for row in outcome.rows[2:])
    assert outcome.validation_seconds == own < sum(row.validation_seconds for row in outcome.rows)


def test_all_tensors_of_model_and_loss_go_on(make_task: Any, tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.register_buffer("calls", torch.zeros(()), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls = self.calls + 1
            result: torch.Tensor = self.net(x) * self.calls
            return result

    class Moving(nn.CrossEntropyLoss):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.ones(()))

        def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            self.seen = self.seen + 1
            return super().forward(output, target) / self.seen

    def make() -> TrainTask:
        torch.manual_seed(4)
        task: TrainTask = make_task({"optim": "NAdam"}, model=Counting().double(), loss_fn=Moving())
        doubles = [(x.double(), y) for x, y in task.train_dataset]
        return replace(task, train_dataset=doubles, val_dataset=None)

    assert bits(interrupted(make, [2, 3], tmp_path)) == bits(uninterrupted(make()))


class TestBeginningAnew:
    def test_a_model_that_is_another_one_begins_anew(
        self, make_task: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        stopped_after(make_task(model=nn.Linear(4, 3)), 3, tmp_path)
        outcome = tried_again(make_task(), tmp_path)
        assert "begins anew" in caplog.text
        assert outcome.steps_before == 0
        assert bits(outcome) == bits(uninterrupted(make_task()))
        assert checkpoint_in(tmp_path).kept_steps() == 0

    def test_a_dataset_that_has_grown_begins_anew(
        self, make_task: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        stopped_after(make_task(), 3, tmp_path)
        outcome = tried_again(make_task(train_dataset=samples(48, 1)), tmp_path)
        assert "has 48 samples, and had 40" in caplog.text
        assert bits(outcome) == bits(uninterrupted(make_task(train_dataset=samples(48, 1))))

    def test_a_stream_that_does_not_come_again_begins_anew(
        self, make_task: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        stopped_after(make_task(train_dataset=Endless()), 2, tmp_path)
        outcome = tried_again(make_task(train_dataset=Endless()), tmp_path)
        assert "does not give the same batches again" in caplog.text
        assert (outcome.steps, outcome.steps_before) == (5, 0)

    def test_a_dataset_that_was_tried_is_as_it_was(self, make_task: Any, tmp_path: Path) -> None:
        stopped_after(make_task(train_dataset=OwnGenerators(), model=nn.Linear(4, 3)), 3, tmp_path)
        outcome = tried_again(make_task(train_dataset=OwnGenerators()), tmp_path)
        assert bits(outcome) == bits(uninterrupted(make_task(train_dataset=OwnGenerators())))

    def test_a_class_of_a_user_begins_anew_unless_it_says_what_it_keeps(
        self, make_task: Any, tmp_path: Path
    ) -> None:
        class Silent(VanillaTrainer):
            __module__ = "appfl_gc_source_mine"
            slow: Any = 0.0

            def batch_loss(self, inputs: Any, targets: Any) -> torch.Tensor:
                loss = super().batch_loss(inputs, targets)
                self.slow = 0.9 * self.slow + loss.detach()
                return loss * self.slow

        class Telling(Silent):
            __module__ = "appfl_gc_source_mine"

            def checkpoint_state(self) -> dict[str, Any]:
                return {"slow": self.slow}

            def load_checkpoint_state(self, state: Any) -> None:
                self.slow = state["slow"]

        whole = uninterrupted(make_task(trainer=Silent))
        stopped = stopped_after(make_task(trainer=Silent), 3, tmp_path / "silent")
        assert (stopped.answers, stopped.checkpoint_steps) == (False, 0)
        again = tried_again(make_task(trainer=Silent), tmp_path / "silent")
        assert (bits(again), again.steps_before) == (bits(whole), 0)
        telling = interrupted(lambda: make_task(trainer=Telling), [1, 3], tmp_path / "telling")
        assert bits(telling) == bits(whole)
