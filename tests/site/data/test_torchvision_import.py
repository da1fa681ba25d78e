"""torchvision beside a torch without CUDA. Each test in a process of its own: an import happens once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="pip install --no-deps torchvision pillow"
)


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_torchvision
def test_models_transforms_and_data_sets_work_after_it(
    tmp_path: Path, write_mnist: Callable[..., None]
) -> None:
    code = """
import sys
import numpy as np, torch
from appfl_gc.site.data.torchvision_import import import_torchvision, prepare_torchvision
torchvision = import_torchvision()
prepare_torchvision()  # a second time does nothing
from torchvision import transforms
from torchvision.transforms import v2
model = torchvision.models.resnet18(num_classes=10)
model(torch.zeros(2, 3, 32, 32)).sum().backward()

from appfl_gc.site.data import Dataset
from appfl_gc.site.data.dataset import as_tensors
mnist = torchvision.datasets.MNIST(sys.argv[1], transform=transforms.ToTensor())
reads = []
real = torchvision.datasets.MNIST.__getitem__
torchvision.datasets.MNIST.__getitem__ = lambda self, index: reads.append(index) or real(self, index)
fast = as_tensors(mnist)
assert not reads, "ToTensor does not need the items"
slow = Dataset(torch.stack([mnist[i][0] for i in range(30)]), torch.tensor([mnist[i][1] for i in range(30)]))
assert torch.equal(fast.data_input, slow.data_input) and torch.equal(fast.data_label, slow.data_label)
reads.clear()
mnist.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])
changed = as_tensors(mnist)
assert len(reads) == 30, "another transform is applied to each item"
assert torch.allclose(changed.data_input, fast.data_input * 2 - 1, atol=1e-6)
colour = torchvision.datasets.CIFAR10.__new__(torchvision.datasets.CIFAR10)
colour.data = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
colour.targets, colour.transform, colour.target_transform = [3, 1], transforms.ToTensor(), None
read = as_tensors(colour)
assert torch.equal(read.data_input, torch.stack([colour[i][0] for i in range(2)]))
print("all well")
"""
    write_mnist(tmp_path / "MNIST" / "raw")
    assert "all well" in run(code, str(tmp_path))


@needs_torchvision
def test_a_torchvision_that_is_imported_already_is_left_alone() -> None:
    code = """
import sys, types
sys.modules["torchvision"] = types.ModuleType("torchvision")
from appfl_gc.site.data.torchvision_import import import_torchvision
assert import_torchvision() is sys.modules["torchvision"]
import torch
assert not hasattr(torch.ops.torchvision, "nms")
"""
    run(code)


def test_a_torchvision_that_is_not_there_is_an_error_with_the_pip_line() -> None:
    code = """
import importlib.util
importlib.util.find_spec = lambda name: None
import sys
sys.modules["torchvision"] = None
from appfl_gc.site.data.torchvision_import import import_torchvision, prepare_torchvision
from appfl_gc.protocol.errors import UserCodeError
prepare_torchvision()
try:
    import_torchvision("download: True")
except UserCodeError as error:
    print(error)
"""
    said = run(code)
    assert "pip install torchvision" in said
    assert "download: True" in said
