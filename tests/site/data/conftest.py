"""Small idx files, as the MNIST distributions have them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appfl_gc.site.data.mnist import IDX_FILES


def _idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes() + array.tobytes()


def _write_mnist(
    folder: Path, train: int = 30, test: int = 10, *, packed: bool = False, dotted: bool = False
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in zip(IDX_FILES, (train, train, test, test), strict=True):
        numbers = np.arange(count, dtype=np.uint8)
        images = np.broadcast_to(numbers[:, None, None], (count, 28, 28))
        content = _idx_bytes(np.ascontiguousarray(images) if "images" in name else numbers % 10)
        name = name.replace("-idx", ".idx") if dotted else name
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    """The idx form of an array of bytes."""
    return _idx_bytes


@pytest.fixture
def write_mnist() -> Callable[..., None]:
    """Writes the four files with ``train`` and ``test`` images; image i holds the value i everywhere."""
    return _write_mnist
