"""Data at the site: data sets held as tensors, partitions among clients, and MNIST."""

from __future__ import annotations

from appfl_gc.site.data.dataset import Dataset
from appfl_gc.site.data.mnist import load_mnist
from appfl_gc.site.data.partition import (
    class_noniid_partition,
    dirichlet_noniid_partition,
    iid_partition,
)

__all__ = [
    "Dataset",
    "class_noniid_partition",
    "dirichlet_noniid_partition",
    "iid_partition",
    "load_mnist",
]
