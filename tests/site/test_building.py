"""Model, loss, metric and datasets from a configuration and user files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.source import Source
from appfl_gc.site.building import (
    build_datasets,
    build_loss,
    build_metric,
    build_model,
    build_validation_dataset,
    evaluate,
)
from appfl_gc.site.source_loader import LoadedSource, SourceLoader, user_frames

Load = Callable[..., LoadedSource]

NET = """
    import torch
    import torch.nn as nn

    class Net(nn.Module):
        def __init__(self, num_inputs, num_classes=3):
            super().__init__()
            self.layer = nn.Linear(num_inputs, num_classes)

        def forward(self, x):
            return self.layer(x)
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loader(kind: str, text: str, name: str = "") -> LoadedSource:
        source = Source(kind, name, f"./resources/{kind}.py", textwrap.dedent(text))
        return SourceLoader(tmp_path).load(source)

    return loader


def failure(build: Callable[[], Any]) -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        build()
    return caught.value


class TestModel:
    def test_a_class_gets_model_kwargs_and_the_seed_42(self, load: Load) -> None:
        model = build_model({"model_kwargs": {"num_inputs": 4}}, load("model", NET, "Net"))
        torch.manual_seed(42)
        expected = nn.Linear(4, 3)
        assert torch.equal(model.layer.weight, expected.weight)

    def test_without_a_name_the_last_function_is_called(self, load: Load) -> None:
        model = build_model({}, load("model", NET + "\n    def make():\n        return Net(2)\n"))
        assert model.layer.in_features == 2

    @pytest.mark.parametrize("seed", [0, 7])
    def test_the_seed_decides_the_bits_and_the_callers_generator_stays(self, load: Load, seed: int) -> None:
        net = load("model", NET, "Net")
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = build_model({"model_kwargs": {"num_inputs": 4}, "seed": seed}, net)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(5)
        again = build_model({"model_kwargs": {"num_inputs": 4}, "seed": seed}, net)
        other = build_model({"model_kwargs": {"num_inputs": 4}, "seed": seed + 1}, net)
        torch.manual_seed(seed)
        assert torch.equal(first.layer.weight, nn.Linear(4, 3).weight)
        assert torch.equal(first.layer.weight, again.layer.weight)
        assert not torch.equal(first.layer.weight, other.layer.weight)

    def test_a_keyword_that_it_does_not_take_gets_the_nearest(self, load: Load) -> None:
        error = failure(lambda: build_model({"model_kwargs": {"num_input": 4}}, load("model", NET, "Net")))
        assert "Net in ./resources/model.py" in error.message
        assert "num_input=4" in error.message
        assert error.hint == "Did you mean num_inputs?"

    def test_a_failure_inside_names_file_line_and_arguments(self, load: Load) -> None:
        error = failure(
            lambda: build_model({"model_kwargs": {"num_inputs": "four"}}, load("model", NET, "Net"))
        )
        assert "num_inputs='four'" in error.message
        assert "TypeError in model.py line 8" in error.message
        assert user_frames(error) == ("model.py:8 in __init__",)

    def test_a_secret_among_the_arguments_is_not_shown(self, load: Load) -> None:
        source = load("dataset", "def get(api_token, n): raise OSError('refused')\n")
        error = failure(lambda: build_datasets({"dataset_kwargs": {"api_token": "s3cr3t", "n": 1}}, source))
        assert "s3cr3t" not in str(error)
        assert "n=1" in error.message

    def test_secrets_further_down_are_not_shown_either(self, load: Load) -> None:
        source = load("dataset", "def get(db, url): raise OSError('refused')\n")
        kwargs = {"db": {"password": "s3cr3t", "port": 1}, "url": "postgres://u:s3cr3t@h/d"}
        error = failure(lambda: build_datasets({"dataset_kwargs": kwargs}, source))
        assert "s3cr3t" not in str(error)
        assert "'port': 1" in error.message and "@h/d" in error.message
        misfit = failure(lambda: build_datasets({"dataset_kwargs": {**kwargs, "more": 1}}, source))
        assert "s3cr3t" not in str(misfit) and "more=1" in misfit.message

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            ("return None", "nothing (None)"),
            ("return 5", "one value (int)"),
            ("return nn.ReLU()", "no floating tensor"),
            ("return nn.Linear(2, 2).to(torch.complex64)", "complex64"),
        ],
    )
    def test_what_is_not_a_trainable_module_is_refused(self, load: Load, body: str, says: str) -> None:
        text = f"import torch\nimport torch.nn as nn\ndef make():\n    {body}\n"
        assert says in failure(lambda: build_model({}, load("model", text))).message

    def test_a_model_whose_only_tensors_are_whole_numbers_is_refused(self, load: Load) -> None:
        text = """
            import torch
            class Counter(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.register_buffer("count", torch.zeros(3, dtype=torch.int64))
        """
        error = failure(lambda: build_model({}, load("model", text, "Counter")))
        assert "no floating tensor" in error.message

    def test_no_source_says_which_key_is_missing(self) -> None:
        assert "model_path" in failure(lambda: build_model({}, None)).hint


class TestLoss:
    def test_a_class_is_instantiated_with_its_arguments(self, load: Load) -> None:
        text = """
            import torch.nn as nn
            class Scaled(nn.Module):
                def __init__(self, scale): super().__init__(); self.scale = scale
                def forward(self, prediction, target): return self.scale * (prediction - target).abs().mean()
        """
        loss = build_loss({"loss_fn_kwargs": {"scale": 3.0}}, load("loss", text))
        assert loss is not None
        assert loss(torch.ones(2), torch.zeros(2)).item() == 3.0

    def test_a_function_gets_its_arguments_with_every_call(self, load: Load) -> None:
        text = "def loss(prediction, target, scale=1.0): return scale * (prediction - target).mean()\n"
        loss = build_loss({"loss_fn_kwargs": {"scale": 2.0}}, load("loss", text, "loss"))
        assert loss is not None
        assert loss(torch.ones(2), torch.zeros(2)).item() == 2.0

    def test_a_name_in_torch_nn(self) -> None:
        loss = build_loss({"loss_fn": "CrossEntropyLoss", "loss_fn_kwargs": {"label_smoothing": 0.1}}, None)
        assert isinstance(loss, nn.CrossEntropyLoss)
        assert loss.label_smoothing == 0.1

    def test_an_unknown_name_gets_the_nearest(self) -> None:
        error = failure(lambda: build_loss({"loss_fn": "CrossEntropyLos"}, None))
        assert "'CrossEntropyLos'" in error.message
        assert error.hint == "Did you mean CrossEntropyLoss?"

    def test_an_argument_that_the_loss_does_not_take(self) -> None:
        error = failure(lambda: build_loss({"loss_fn": "MSELoss", "loss_fn_kwargs": {"smoothing": 1}}, None))
        assert "torch.nn.MSELoss" in error.message and "smoothing=1" in error.message

    def test_random_numbers_in_its_constructor_are_the_same_each_time(self, load: Load) -> None:
        text = """
            import torch
            class Drawn(torch.nn.Module):
                def __init__(self): super().__init__(); self.weights = torch.rand(3)
                def forward(self, prediction, target): return (self.weights * (prediction - target)).sum()
        """
        source = load("loss", text)
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first: Any = build_loss({}, source)
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(5)
        again: Any = build_loss({}, source)
        assert torch.equal(first.weights, again.weights)

    def test_a_loss_of_torch_with_weights_is_the_same_each_time(self) -> None:
        kwargs = {"in_features": 4, "n_classes": 5, "cutoffs": [2]}
        configs = {"loss_fn": "AdaptiveLogSoftmaxWithLoss", "loss_fn_kwargs": kwargs}
        first: Any = build_loss(configs, None)
        torch.rand(5)
        again: Any = build_loss(configs, None)
        assert torch.equal(first.head.weight, again.head.weight)

    def test_neither_is_none(self) -> None:
        assert build_loss({}, None) is None


def test_a_metric_is_a_function(load: Load) -> None:
    assert build_metric(None) is None
    metric = build_metric(load("metric", "def accuracy(y_true, y_pred): return (y_true == y_pred).mean()\n"))
    assert metric is not None
    assert metric(np.ones(4), np.ones(4)) == 1.0
    error = failure(lambda: build_metric(load("metric", "class Accuracy: pass\n", "Accuracy")))
    assert "metric(y_true, y_pred)" in error.message


DATASET = """
    import torch
    from appfl.misc.data import Dataset

    def get(num_clients, client_id, **kwargs):
        data = Dataset(torch.rand(8, 4), torch.zeros(8, dtype=torch.int64))
        return data, kwargs.get("val")
"""


class TestDatasets:
    def test_a_function_in_the_published_style(self, load: Load) -> None:
        configs = {"dataset_kwargs": {"num_clients": 2, "client_id": 0}}
        train, val = build_datasets(configs, load("dataset", DATASET))
        assert len(train) == 8
        assert val is None

    def test_the_seed_decides_what_it_draws_and_the_callers_generator_stays(self, load: Load) -> None:
        configs = {"dataset_kwargs": {"num_clients": 2, "client_id": 0}}
        source = load("dataset", DATASET)
        state = torch.get_rng_state()
        first, again, other = (build_datasets(configs, source, seed=seed)[0][0][0] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(
        ("body", "says", "hint"),
        [
            ("pass", "returned nothing (None)", "return statement missing"),
            ("return [1, 2, 3]", "returned 3 values", "(train_dataset, None)"),
            ("return D(x)", "returned one value (TensorDataset)", "(train_dataset, None)"),
            (
                "return 5, D(x)",
                "training dataset from get in ./resources/dataset.py is one value (int)",
                "__len__",
            ),
            ("return D(x), 5", "validation dataset", "__len__"),
            ("return None, D(x)", "training dataset", "__len__"),
            ("return DataLoader(D(x)), None", "is a DataLoader", "Return its dataset"),
            ("raise ValueError('no such file')", "ValueError in dataset.py line 4: no such file", ""),
            ("import sys; sys.exit(2)", "sys.exit(2) was called in dataset.py line 4", "Raise an exception"),
            ("import no_such_package", "no_such_package is not installed", "at the site"),
            ("return {}['mnist']", "KeyError in dataset.py line 4: there is no key 'mnist'", ""),
        ],
    )
    def test_what_is_not_two_datasets_is_explained(self, load: Load, body: str, says: str, hint: str) -> None:
        text = "import torch\nfrom torch.utils.data import DataLoader, TensorDataset as D\n"
        text += f"def get(x=torch.rand(4)):\n    {body}\n"
        error = failure(lambda: build_datasets({}, load("dataset", text)))
        assert says in error.message
        assert hint in error.hint

    def test_arguments_that_it_does_not_take(self, load: Load) -> None:
        source = load("dataset", "def get(partition_strategy): pass\n")
        error = failure(lambda: build_datasets({"dataset_kwargs": {"partition_strategi": "iid"}}, source))
        assert "partition_strategi='iid'" in error.message
        assert error.hint == "Did you mean partition_strategy?"

    def test_the_servers_validation_takes_one_dataset(self, load: Load) -> None:
        one = load(
            "dataset", "import torch\ndef get(): return torch.utils.data.TensorDataset(torch.rand(4))\n"
        )
        assert len(build_validation_dataset({}, one)) == 4
        two = load("dataset", "def get(): return [1], [2]\n")
        assert "gave 2 values" in failure(lambda: build_validation_dataset({}, two)).message


class TestEvaluate:
    def test_loss_is_the_mean_over_samples_and_the_metric_sees_them_all(self) -> None:
        x, y = torch.arange(10.0).reshape(10, 1), torch.zeros(10, 1)
        seen: list[int] = []

        def mean_error(y_true: np.ndarray, y_pred: np.ndarray) -> float:
            seen.append(len(y_true))
            return float(np.abs(y_true - y_pred).mean())

        model = nn.Identity()
        # Batches of 4, 4 and 2: the mean of their means would be another number.
        result = evaluate(model, nn.L1Loss(), mean_error, TensorDataset(x, y), batch_size=4)
        assert result == {"val_loss": 4.5, "val_mean_error": 4.5}
        assert seen == [10]

    def test_the_models_mode_stays_and_dropout_is_off(self) -> None:
        model = nn.Dropout(0.9)
        x = torch.ones(6, 2)
        assert evaluate(model, nn.L1Loss(), None, TensorDataset(x, x))["val_loss"] == 0.0
        assert model.training

    def test_an_earlier_validation_does_not_change_a_later_one(self) -> None:
        class Counting(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.calls = 0

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                self.calls += 1
                return x + self.calls

        model, x = Counting(), torch.ones(3, 1)
        first, second = (evaluate(model, nn.L1Loss(), None, TensorDataset(x, x)) for _ in range(2))
        assert first == second

    def test_an_empty_dataset_is_an_error(self) -> None:
        data = TensorDataset(torch.ones(0, 2), torch.ones(0, 2))
        assert "empty" in failure(lambda: evaluate(nn.Identity(), nn.L1Loss(), None, data)).message

    def test_an_absent_device_names_those_present(self) -> None:
        x = torch.ones(2, 2)
        error = failure(lambda: evaluate(nn.Identity(), None, None, TensorDataset(x, x), device="cuda:63"))
        assert "cuda:63 is not on this machine; present: cpu" in error.message

    def test_a_metric_that_returns_no_number(self) -> None:
        x = torch.ones(2, 2)

        def pair(y_true: np.ndarray, y_pred: np.ndarray) -> Any:
            return 1, 2

        error = failure(lambda: evaluate(nn.Identity(), None, pair, TensorDataset(x, x)))
        assert "metric pair returned tuple" in error.message

    def test_half_precision_outputs_reach_the_metric(self) -> None:
        x = torch.ones(2, 2, dtype=torch.bfloat16)

        def total(y_true: np.ndarray, y_pred: np.ndarray) -> float:
            return float(y_pred.sum())

        assert evaluate(nn.Identity(), None, total, TensorDataset(x, x))["val_total"] == 4.0
