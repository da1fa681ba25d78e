"""Write small idx files, as the MNIST distributions have them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from appfl_gc.site.data.mnist import IDX_FILES


def idx_bytes(array: np.ndarray) -> bytes:
    """The idx form of an array of bytes."""
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes() + array.tobytes()


def write_mnist(
    folder: Path, train: int = 30, test: int = 10, *, packed: bool = False, dotted: bool = False
) -> None:
    """Write the four files with ``train`` and ``test`` images; image i holds the value i everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in zip(IDX_FILES, (train, train, test, test), strict=True):
        numbers = np.arange(count, dtype=np.uint8)
        images = (
            np.broadcast_to(numbers[:, None, None], (count, 28, 28)) if "images" in name else numbers % 10
        )
        content = idx_bytes(np.ascontiguousarray(images))
        name = name.replace("-idx", ".idx") if dotted else name
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
