"""VanillaTrainer, key by key, against the same computation written plainly."""

from __future__ import annotations

import copy
import logging
import random
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from appfl_gc.protocol.errors import NotSupportedError, UserCodeError
from appfl_gc.site.trainer.run import TrainOutcome, TrainTask, run_trainer
from appfl_gc.site.trainer.settings import VanillaSettings


def same(a: TrainOutcome, b: TrainOutcome) -> bool:
    return a.state.keys() == b.state.keys() and all(
        torch.equal(a.state[name], b.state[name]) for name in a.state
    )


def failure(task: TrainTask) -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        run_trainer(task)
    return caught.value


class Recorder(nn.Module):
    """A linear model that keeps the inputs of its training steps; kept outside the instance, which is copied."""

    seen: ClassVar[list[torch.Tensor]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        type(self).seen = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            type(self).seen.append(x[:, 0].clone())
        result: torch.Tensor = self.layer(x)
        return result


def numbered(count: int) -> TensorDataset:
    x = torch.arange(float(count)).reshape(count, 1)
    return TensorDataset(x, 2 * x + 1)


PLAIN = {"optim": "SGD", "optim_args": {"lr": 0.001}, "train_data_shuffle": False}


class TestSteps:
    def test_step_mode_does_exactly_the_steps_over_as_many_passes_as_they_take(self, make_task: Any) -> None:
        task = make_task(
            {**PLAIN, "num_local_steps": 5, "train_batch_size": 4},
            model=Recorder(), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        outcome = run_trainer(task)
        assert outcome.steps == 5
        assert outcome.sample_size == 10
        assert [len(batch) for batch in Recorder.seen] == [4, 4, 2, 4, 4]

    def test_epoch_mode_passes_over_the_data(self, make_task: Any) -> None:
        task = make_task(
            {**PLAIN, "mode": "epoch", "num_local_epochs": 2, "train_batch_size": 4},
            model=Recorder(), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        assert run_trainer(task).steps == 6
        assert [len(batch) for batch in Recorder.seen] == [4, 4, 2] * 2

    def test_drop_last_leaves_the_short_batch_out(self, make_task: Any) -> None:
        task = make_task(
            {**PLAIN, "mode": "epoch", "num_local_epochs": 1, "train_batch_size": 4, "train_drop_last": True},
            model=Recorder(), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        assert run_trainer(task).steps == 2

    def test_a_dataset_smaller_than_a_batch_gives_steps_of_all_of_it(self, make_task: Any) -> None:
        task = make_task(
            {**PLAIN, "num_local_steps": 3, "train_batch_size": 64},
            model=Recorder(), train_dataset=numbered(5), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        assert run_trainer(task).steps == 3
        assert [len(batch) for batch in Recorder.seen] == [5, 5, 5]

    def test_shuffle_gives_every_sample_once_an_epoch_in_an_order_of_its_own(self, make_task: Any) -> None:
        task = make_task(
            {**PLAIN, "mode": "epoch", "num_local_epochs": 2, "train_data_shuffle": True},
            model=Recorder(), train_dataset=numbered(32), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        run_trainer(task)
        order = torch.cat(Recorder.seen).int().tolist()
        first, second = order[:32], order[32:]
        assert sorted(first) == sorted(second) == list(range(32))
        assert first != second
        assert first != list(range(32))

    def test_the_scheduler_sets_steps_and_learning_rate_of_one_call(self, make_task: Any) -> None:
        for configs in ({}, {"mode": "epoch", "num_local_epochs": 3}):
            assert run_trainer(make_task(configs, args={"local_steps": 2})).steps == 2
        fast = run_trainer(make_task({"optim": "SGD"}, args={"learning_rate": 0.5}))
        configured = run_trainer(make_task({"optim": "SGD", "optim_args": {"lr": 0.5}}))
        slow = run_trainer(make_task({"optim": "SGD"}))
        assert same(fast, configured)
        assert not same(fast, slow)


class TestArithmetic:
    def test_one_plain_sgd_step_is_the_textbooks(self, make_task: Any) -> None:
        task = make_task(
            {**PLAIN, "num_local_steps": 1, "train_batch_size": 10, "optim_args": {"lr": 0.01}},
            model=nn.Linear(1, 1), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        x, y = task.train_dataset.tensors
        weight, bias = task.received["weight"], task.received["bias"]
        error = x @ weight.T + bias - y
        outcome = run_trainer(task)
        assert outcome.metrics["train_loss"] == pytest.approx(float((error**2).mean()))
        assert outcome.state["weight"].item() == pytest.approx(float(weight - 0.01 * (2 * error * x).mean()))
        assert outcome.state["bias"].item() == pytest.approx(float(bias - 0.01 * (2 * error).mean()))

    def test_train_loss_is_the_mean_over_the_steps_that_were_run(self, make_task: Any) -> None:
        # A rate of zero keeps the model: every step's loss can be computed from the received one.
        configs = {**PLAIN, "optim_args": {"lr": 0.0}, "num_local_steps": 7, "train_batch_size": 4}
        task = make_task(
            configs, model=nn.Linear(1, 1), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None
        )
        batches = [(0, 4), (4, 8), (8, 10), (0, 4), (4, 8), (8, 10), (0, 4)]
        x, y = task.train_dataset.tensors
        with torch.no_grad():
            squares = (x @ task.received["weight"].T + task.received["bias"] - y) ** 2
        expected = torch.cat([squares[start:end] for start, end in batches]).mean().item()
        assert run_trainer(task).metrics["train_loss"] == pytest.approx(expected)

    @pytest.mark.parametrize("norm_type", [1, 2, float("inf")])
    def test_clipping_bounds_the_gradients_norm_of_the_configured_type(
        self, make_task: Any, norm_type: float
    ) -> None:
        configs = {
            **PLAIN, "optim_args": {"lr": 1.0}, "num_local_steps": 1, "train_batch_size": 10,
            "clip_grad": True, "clip_value": 0.25, "clip_norm": norm_type, "send_gradient": True,
        }  # fmt: skip
        task = make_task(
            configs, model=nn.Linear(1, 1), train_dataset=numbered(10), loss_fn=nn.MSELoss(), metric=None
        )
        step = torch.cat([tensor.flatten() for tensor in run_trainer(task).state.values()])
        assert torch.linalg.vector_norm(step, norm_type).item() == pytest.approx(0.25, rel=1e-4)

    def test_send_gradient_is_received_minus_new_for_parameters_and_values_for_buffers(
        self, make_task: Any
    ) -> None:
        values = run_trainer(make_task())
        task = make_task({"send_gradient": True})
        deltas = run_trainer(task)
        assert list(deltas.state) == list(values.state) == list(task.received)
        parameters = {name for name, _ in task.model.named_parameters()}
        assert set(deltas.deltas) == parameters
        assert values.deltas == ()
        for name, tensor in deltas.state.items():
            expected = task.received[name] - values.state[name] if name in parameters else values.state[name]
            assert torch.equal(tensor, expected), name
        assert deltas.state["norm.num_batches_tracked"].item() == 5

    def test_a_shared_parameter_is_a_difference_under_both_names(self, make_task: Any) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
        model[1].weight = model[0].weight
        outcome = run_trainer(make_task({"send_gradient": True}, model=model))
        assert {"0.weight", "1.weight"} <= set(outcome.deltas)
        assert torch.equal(outcome.state["0.weight"], outcome.state["1.weight"])

    def test_frozen_parameters_stay(self, make_task: Any) -> None:
        task = make_task()
        task.model.first.weight.requires_grad_(False)
        outcome = run_trainer(task)
        assert torch.equal(outcome.state["first.weight"], task.received["first.weight"])
        assert not torch.equal(outcome.state["second.weight"], task.received["second.weight"])

    def test_an_optimiser_that_evaluates_the_loss_several_times(self, make_task: Any) -> None:
        configs = {"optim": "LBFGS", "optim_args": {"lr": 0.5}, "num_local_steps": 4, "train_batch_size": 10}
        task = make_task(
            {**configs, "do_pre_validation": True, "do_validation": True},
            model=nn.Linear(1, 1), train_dataset=numbered(10), val_dataset=numbered(10),
            loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        outcome = run_trainer(task)
        assert outcome.steps == 4
        assert outcome.metrics["val_loss"] < 0.1 * outcome.metrics["pre_val_loss"]

    def test_it_learns(self, make_task: Any) -> None:
        configs = {
            "num_local_steps": 150,
            "optim_args": {"lr": 0.02},
            "do_validation": True,
            "do_pre_validation": True,
        }
        metrics = run_trainer(make_task(configs)).metrics
        assert metrics["val_accuracy"] > metrics["pre_val_accuracy"] + 0.2


class TestValidation:
    @pytest.mark.parametrize(
        ("do_pre", "do_val", "expected"),
        [
            (False, False, {"train_loss"}),
            (True, False, {"train_loss", "pre_val_loss", "pre_val_accuracy"}),
            (False, True, {"train_loss", "val_loss", "val_accuracy"}),
        ],
    )
    def test_only_what_was_measured_is_reported(
        self, make_task: Any, do_pre: bool, do_val: bool, expected: set[str]
    ) -> None:
        outcome = run_trainer(make_task({"do_pre_validation": do_pre, "do_validation": do_val}))
        assert set(outcome.metrics) == expected

    def test_before_and_after_are_measured_on_the_right_model(self, make_task: Any) -> None:
        task = make_task({"do_pre_validation": True, "do_validation": True})
        x, y = task.val_dataset.tensors
        received = copy.deepcopy(task.model).eval()
        metrics = run_trainer(task).metrics
        with torch.no_grad():
            before = nn.functional.cross_entropy(received(x), y).item()
            after = nn.functional.cross_entropy(task.model.eval()(x), y).item()
        assert metrics["pre_val_loss"] == pytest.approx(before)
        assert metrics["val_loss"] == pytest.approx(after)
        assert before != pytest.approx(after)

    def test_validation_does_not_change_the_update(self, make_task: Any) -> None:
        without = run_trainer(make_task())
        validated = run_trainer(make_task({"do_pre_validation": True, "do_validation": True}))
        assert same(without, validated)

    def test_without_a_metric_there_is_the_loss(self, make_task: Any) -> None:
        outcome = run_trainer(make_task({"do_validation": True}, metric=None))
        assert set(outcome.metrics) == {"train_loss", "val_loss"}

    @pytest.mark.parametrize("key", ["do_validation", "do_pre_validation"])
    @pytest.mark.parametrize("val", [None, TensorDataset(torch.ones(0, 4))])
    def test_without_validation_data_it_is_an_error_before_training(
        self, make_task: Any, key: str, val: Any
    ) -> None:
        task = make_task({key: True}, val_dataset=val)
        error = failure(task)
        assert f"{key}: True needs validation data" in error.message
        assert f"{key}: False" in error.hint
        assert torch.equal(task.model.first.weight, task.received["first.weight"])

    def test_epoch_mode_validates_after_each_epoch(
        self, make_task: Any, line_logger: Any, lines: list[str]
    ) -> None:
        configs = {"mode": "epoch", "num_local_epochs": 2, "do_validation": True, "do_pre_validation": True}
        outcome = run_trainer(make_task(configs, logger=line_logger))
        assert [row.epoch for row in outcome.rows] == [0, 1, 2]
        assert [row.steps for row in outcome.rows] == [0, 5, 5]
        assert (
            outcome.metrics["val_loss"]
            == outcome.rows[2].metrics["val_loss"]
            != outcome.rows[1].metrics["val_loss"]
        )
        assert len(lines) == 3
        assert "epoch 2/2" in lines[2]
        assert f"val_accuracy     {outcome.metrics['val_accuracy']:.4f}" in lines[2]
        assert "pre_val" not in lines[2] and "train_loss" not in lines[0]

    def test_step_mode_logs_one_row(self, make_task: Any, line_logger: Any, lines: list[str]) -> None:
        run_trainer(make_task(logger=line_logger))
        assert len(lines) == 1
        assert "5 steps" in lines[0]


class RandomDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples with random noise from all three generators, as augmentation has it."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(4) + random.random() + float(np.random.rand())
        return noise + index, torch.tensor(index % 3)


class TestDeterminism:
    def test_the_same_seed_gives_the_same_bits_and_another_does_not(self, make_task: Any) -> None:
        first = run_trainer(make_task())
        torch.rand(17)
        assert same(first, run_trainer(make_task()))
        assert not same(first, run_trainer(make_task(seed=12)))

    def test_the_order_of_the_samples_follows_from_the_seed(self, make_task: Any) -> None:
        def order(seed: int) -> list[int]:
            configs = {**PLAIN, "train_data_shuffle": True, "num_local_steps": 4}
            parts = {
                "model": Recorder(),
                "train_dataset": numbered(32),
                "loss_fn": nn.MSELoss(),
                "metric": None,
            }
            run_trainer(make_task(configs, seed=seed, **parts))
            numbers: list[int] = torch.cat(Recorder.seen).int().tolist()
            return numbers

        assert order(1) == order(1) != order(2)

    def test_a_model_is_trained_in_training_mode_however_it_comes(self, make_task: Any) -> None:
        task = make_task()
        task.model.eval()
        assert same(run_trainer(task), run_trainer(make_task()))

    def test_the_number_of_loader_workers_changes_no_bits(self, make_task: Any) -> None:
        assert same(run_trainer(make_task()), run_trainer(make_task({"num_workers": 2})))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_random_samples_follow_from_the_seed(self, make_task: Any, workers: int) -> None:
        def run(seed: int) -> TrainOutcome:
            random.seed()
            np.random.seed()
            return run_trainer(make_task({"num_workers": workers}, train_dataset=RandomDataset(), seed=seed))

        assert same(run(1), run(1))
        assert not same(run(1), run(2))

    def test_the_optimiser_starts_anew_in_each_task(self, make_task: Any) -> None:
        task = make_task()
        first = {name: tensor.clone() for name, tensor in run_trainer(task).state.items()}
        second = run_trainer(task)
        assert all(torch.equal(first[name], second.state[name]) for name in first)

    def test_nothing_global_changes(self, make_task: Any) -> None:
        def state() -> list[Any]:
            return [
                torch.get_rng_state().tolist(),
                random.getstate(),
                np.random.get_state()[1].tolist(),  # type: ignore[index, call-overload]
                torch.get_num_threads(),
                torch.get_default_dtype(),
                torch.is_grad_enabled(),
                torch.backends.cudnn.deterministic,
                torch.backends.cudnn.benchmark,
                torch.are_deterministic_algorithms_enabled(),
                list(logging.getLogger().handlers),
                logging.getLogger().level,
            ]

        def rude(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.set_default_dtype(torch.float64)
            return nn.functional.cross_entropy(output, target)

        task = make_task(loss_fn=rude)
        before = state()
        run_trainer(task)
        assert state() == before

    def test_received_tensors_and_configuration_are_not_changed(self, make_task: Any) -> None:
        task = make_task({"send_gradient": True}, args={"learning_rate": 0.5})
        received = {name: tensor.clone() for name, tensor in task.received.items()}
        configs = copy.deepcopy(dict(task.train_configs))
        run_trainer(task)
        assert all(torch.equal(task.received[name], received[name]) for name in received)
        assert task.train_configs == configs


class Fed(nn.Module):
    """Takes what its inputs are, to test forms of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs: Any) -> torch.Tensor:
        x = inputs["a"] + inputs["more"][0] if isinstance(inputs, dict) else inputs[0] + inputs[1]
        result: torch.Tensor = self.layer(x)
        return result


class TestBatches:
    @pytest.mark.parametrize("form", ["dict", "tuple"])
    def test_inputs_may_be_nested(self, make_task: Any, form: str) -> None:
        x, y = torch.ones(2), torch.zeros(1)
        inputs: Any = {"a": x, "more": [x]} if form == "dict" else (x, x)
        task = make_task(model=Fed(), train_dataset=[(inputs, y)] * 20, loss_fn=nn.MSELoss(), metric=None)
        assert run_trainer(task).steps == 5

    @pytest.mark.parametrize(
        ("sample", "says"),
        [
            ({"x": torch.ones(4), "y": torch.ones(1)}, "a dict with x, y"),
            ((torch.ones(4), torch.ones(4), torch.ones(1)), "3 parts"),
            (torch.ones(4), "Tensor"),
        ],
    )
    def test_what_is_not_a_pair_is_explained(self, make_task: Any, sample: Any, says: str) -> None:
        error = failure(make_task(train_dataset=[sample] * 20))
        assert f"A batch of the dataset is {says}" in error.message
        assert "trainer_path" in error.hint

    def test_an_iterable_dataset_keeps_its_order(self, make_task: Any) -> None:
        class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
            def __iter__(self) -> Any:
                return iter(numbered(10))

            def __len__(self) -> int:
                return 10

        task = make_task(
            {**PLAIN, "train_data_shuffle": True},
            model=Recorder(), train_dataset=Stream(), loss_fn=nn.MSELoss(), metric=None,
        )  # fmt: skip
        run_trainer(task)
        assert torch.cat(Recorder.seen)[:10].int().tolist() == list(range(10))

    @pytest.mark.parametrize("samples", [0, 6])
    @pytest.mark.parametrize("mode", [{"num_local_steps": 9}, {"mode": "epoch", "num_local_epochs": 9}])
    def test_an_iterable_dataset_that_ends_early_is_an_error(
        self, make_task: Any, samples: int, mode: dict[str, Any]
    ) -> None:
        class Once(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
            def __init__(self) -> None:
                self.rest = iter([(torch.ones(1), torch.ones(1))] * samples)

            def __iter__(self) -> Any:
                return self.rest

            def __len__(self) -> int:
                return 10

        configs = {**PLAIN, **mode, "train_batch_size": 4}
        task = make_task(configs, model=Recorder(), train_dataset=Once(), loss_fn=nn.MSELoss(), metric=None)
        error = failure(task)
        assert "A pass over the training dataset gave no batch" in error.message
        assert "__iter__" in error.hint
        assert sum(map(len, Recorder.seen)) == samples


class TestBadInput:
    @pytest.mark.parametrize(
        ("configs", "says"),
        [
            ({"mode": "steps"}, "train_configs.mode is 'steps'"),
            ({"mode": None}, "train_configs.mode is missing"),
            ({"num_local_steps": None}, "train_configs.num_local_steps is missing"),
            ({"num_local_steps": 0}, "train_configs.num_local_steps is 0"),
            ({"num_local_steps": -1}, "train_configs.num_local_steps is -1"),
            ({"mode": "epoch"}, "train_configs.num_local_epochs is missing"),
            ({"optim": None}, "train_configs.optim is missing"),
            ({"optim": "Adamm"}, "no optimiser 'Adamm'"),
            ({"optim_args": {"momentun": 0.9}}, "momentun=0.9"),
            ({"optim_args": "lr"}, "train_configs.optim_args is 'lr'"),
            ({"train_batch_size": "64"}, "train_configs.train_batch_size is '64'"),
            ({"do_validation": "yes"}, "train_configs.do_validation is 'yes'"),
            ({"clip_grad": True, "clip_value": None}, "train_configs.clip_value is missing"),
            ({"clip_grad": True, "clip_value": -1}, "train_configs.clip_value is -1"),
            ({"device": "cuda:63"}, "cuda:63 is not on this machine; present: cpu"),
            ({"device": "tpu"}, "'tpu' is not a device"),
            ({"train_drop_last": True, "train_batch_size": 64}, "40 samples, fewer than one batch of 64"),
        ],
    )
    def test_each_wrong_key_is_named(self, make_task: Any, configs: dict[str, Any], says: str) -> None:
        assert says in failure(make_task(configs)).message

    @pytest.mark.parametrize("steps", [0, -2])
    def test_steps_below_one(self, make_task: Any, steps: int) -> None:
        assert f"asked for {steps} local steps" in failure(make_task(args={"local_steps": steps})).message
        with pytest.raises(UserCodeError, match=f"A task of {steps} steps"):
            VanillaSettings(steps=steps, epochs=None, optim="SGD")

    def test_secrets_among_the_arguments_of_the_optimiser_are_not_shown(self, make_task: Any) -> None:
        args = {"more": {"password": "hush"}, "api_token": "hush", "lr": 0.5}
        message = failure(make_task({"optim_args": args})).message
        assert "hush" not in message
        assert "lr=0.5" in message

    def test_the_nearest_optimiser_is_proposed(self, make_task: Any) -> None:
        assert failure(make_task({"optim": "adamw"})).hint == "Did you mean AdamW?"

    def test_an_empty_training_set(self, make_task: Any) -> None:
        assert "training dataset is empty" in failure(make_task(train_dataset=[])).message

    def test_no_loss(self, make_task: Any) -> None:
        error = failure(make_task(loss_fn=None))
        assert "needs a loss" in error.message
        assert "loss_fn_path" in error.hint

    def test_a_loss_that_is_no_number(self, make_task: Any) -> None:
        error = failure(make_task(loss_fn=nn.CrossEntropyLoss(reduction="none")))
        assert "a tensor of shape (8,)" in error.message

    def test_a_model_without_a_trainable_parameter(self, make_task: Any) -> None:
        task = make_task()
        task.model.requires_grad_(False)
        assert "no parameter that can be trained" in failure(task).message

    def test_a_received_model_that_does_not_fit_names_the_tensors(self, make_task: Any) -> None:
        task = make_task()
        received = dict(task.received)
        del received["norm.bias"]
        received["extra"] = torch.ones(1)
        received["first.weight"] = torch.ones(2, 2)
        message = failure(make_task(received=received)).message
        assert "norm.bias is missing" in message
        assert "extra is unknown to the model" in message
        assert "first.weight has shape (2, 2), the model's has (8, 4)" in message

    def test_a_trainer_that_is_not_built_yet_and_one_that_is_unknown(self, make_task: Any) -> None:
        with pytest.raises(NotSupportedError, match="MonaiTrainer is not supported yet"):
            run_trainer(make_task(trainer="MonaiTrainer"))
        assert failure(make_task(trainer="VanilaTrainer")).hint == "Did you mean VanillaTrainer?"

    def test_an_error_in_a_loader_worker_names_what_failed(self, make_task: Any) -> None:
        class Broken(RandomDataset):
            def __getitem__(self, index: int) -> Any:
                raise ValueError(f"sample {index} is torn")

        error = failure(make_task({"num_workers": 1, "train_data_shuffle": False}, train_dataset=Broken()))
        assert "ValueError" in error.message
        assert "sample 0 is torn" in error.message
