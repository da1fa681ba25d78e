"""The example files: each by itself, as a site runs them."""

from __future__ import annotations

import ast
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from appfl_gc.site.data import Dataset

RESOURCES = Path(__file__).parents[2] / "examples" / "resources"
FILES = {
    "model/cnn.py": "CNN",
    "loss/celoss.py": "CELoss",
    "metric/acc.py": "accuracy",
    "dataset/mnist_dataset.py": "get_mnist",
}


def load(path: str) -> types.ModuleType:
    """The file as a site loads it: its text executed in a module of its own, its folder not on the path."""
    module = types.ModuleType("user_file")
    exec(compile((RESOURCES / path).read_text(), path, "exec"), module.__dict__)
    return module


def imported(path: Path) -> set[str]:
    """The packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize(("path", "name"), FILES.items())
def test_each_file_imports_in_isolation(path: str, name: str, tmp_path: Path) -> None:
    code = f"exec(compile(open({str(RESOURCES / path)!r}).read(), 'file', 'exec')); print({name}.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == name, done.stderr


@pytest.mark.parametrize("path", FILES)
def test_a_file_imports_only_what_every_site_has(path: str) -> None:
    # numpy comes with appfl_gc, and a metric is given its arrays
    others = imported(RESOURCES / path) - set(sys.stdlib_module_names) - {"torch", "appfl_gc", "numpy"}
    assert not others
    if path.startswith("dataset"):
        assert "numpy" not in imported(RESOURCES / path)


def test_the_network_has_the_published_number_of_parameters() -> None:
    network = load("model/cnn.py").CNN(num_channel=1, num_classes=10, num_pixel=28)
    assert sum(parameter.numel() for parameter in network.parameters()) == 582_026
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_the_network_fits_other_images() -> None:
    network = load("model/cnn.py").CNN(num_channel=3, num_classes=7, num_pixel=32)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_the_loss_is_cross_entropy_and_takes_kwargs() -> None:
    logits, target = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    expected = (-torch.log_softmax(logits, dim=1)[[0, 1], target]).mean()
    assert torch.allclose(load("loss/celoss.py").CELoss()(logits, target), expected)
    assert load("loss/celoss.py").CELoss(label_smoothing=0.1)(logits, target) > expected


def test_the_metric_is_a_float_in_per_cent() -> None:
    accuracy = load("metric/acc.py").accuracy
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])
    assert accuracy(np.array([0, 1, 1, 1]), scores) == 75.0
    assert accuracy(np.array([[0], [1], [1], [0]]), scores) == 50.0
    assert accuracy(np.array([0, 1, 1]), np.array([[0.1], [0.9], [0.2]])) == pytest.approx(200 / 3)
    assert isinstance(accuracy(np.array([0]), scores[:1]), float)


class TestMnistDataset:
    @pytest.fixture(autouse=True)
    def _no_data_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv("APPFL_GC_DATA", raising=False)
        monkeypatch.chdir(tmp_path)

    @pytest.mark.parametrize("strategy", ["iid", "class_noniid", "dirichlet_noniid", "dirichlet_nomiid"])
    def test_the_clients_share_the_training_images(self, strategy: str) -> None:
        get_mnist = load("dataset/mnist_dataset.py").get_mnist
        shares = [get_mnist(3, client, strategy) for client in range(3)]
        assert sum(len(train) for train, _ in shares) == 4000
        images = {image.numpy().tobytes() for train, _ in shares for image in train.data_input}
        assert len(images) == 4000
        assert [len(test) for _, test in shares] == [1000] * 3

    def test_the_misspelt_strategy_is_the_right_one(self) -> None:
        get_mnist = load("dataset/mnist_dataset.py").get_mnist
        old, new = get_mnist(2, 0, "dirichlet_nomiid")[0], get_mnist(2, 0, "dirichlet_noniid")[0]
        assert torch.equal(old.data_input, new.data_input)

    def test_further_arguments_reach_the_partition(self) -> None:
        train, _ = load("dataset/mnist_dataset.py").get_mnist(4, 1, "class_noniid", Cmin=3, Cmax=3, seed=5)
        assert len(train.data_label.unique()) == 3

    def test_a_share_is_loaded_without_touching_single_images(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise AssertionError("an image was handled by itself")

        monkeypatch.setattr(Dataset, "__getitem__", refuse)
        monkeypatch.setattr(torch.Tensor, "tolist", refuse)
        monkeypatch.setattr(torch.Tensor, "__iter__", refuse)
        train, test = load("dataset/mnist_dataset.py").get_mnist(2, 0)
        assert len(train) + len(test) > 1000

    def test_the_picture_is_drawn_where_it_is_asked_for(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        load("dataset/mnist_dataset.py").get_mnist(2, 0, visualization=True)
        assert (tmp_path / "output" / "partition.png").is_file()

    def test_the_test_set_is_the_clients_validation_set(self) -> None:
        module = load("dataset/mnist_dataset.py")
        assert torch.equal(module.get_mnist_testset().data_input, module.get_mnist(2, 1)[1].data_input)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [((2, 0, "by_colour"), "by_colour.*iid, class_noniid, dirichlet_noniid"), ((2, 2), "client_id is 2")],
    )
    def test_what_has_no_meaning_is_an_error(self, arguments: tuple[Any, ...], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            load("dataset/mnist_dataset.py").get_mnist(*arguments)
