"""A data set held as two tensors, and how any other map-style data set is read into one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset, TensorDataset

from appfl_gc.protocol.errors import UserCodeError


class Dataset(TorchDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pairs of input and label, held whole.

    Args:
        data_input: inputs of shape [N, ...]; empty if not given.
        data_label: labels of shape [N, ...]; empty if not given.

    Raises:
        UserCodeError: the two have different lengths.
    """

    def __init__(
        self, data_input: torch.Tensor | None = None, data_label: torch.Tensor | None = None
    ) -> None:
        self.data_input = torch.empty(0) if data_input is None else data_input
        self.data_label = torch.empty(0) if data_label is None else data_label
        if len(self.data_input) != len(self.data_label):
            raise UserCodeError(
                f"A data set has {len(self.data_input)} inputs but {len(self.data_label)} labels.",
                "Give data_input and data_label the same first dimension.",
            )

    def __len__(self) -> int:
        return len(self.data_label)

    def __getitem__(self, index: int | slice | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One pair; with a slice, without copying, or a tensor of indices the pairs stacked: [n, ...]."""
        return self.data_input[index], self.data_label[index]

    def take(self, indices: np.ndarray[Any, Any]) -> Dataset:
        """A data set of the samples at ``indices``, copied."""
        chosen = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        return Dataset(self.data_input.index_select(0, chosen), self.data_label.index_select(0, chosen))


def as_tensors(dataset: TorchDataset[Any]) -> Dataset:
    """Read a map-style data set of (input, label) pairs into tensors.

    Our own ``Dataset`` is returned as it is; a ``TensorDataset`` of two tensors and a ``Subset`` of either
    are read without touching single items. So is a class of torchvision's own with images in ``data`` and
    class numbers in ``targets`` when it has no transform or exactly ``ToTensor``: the values are those of
    ``ToTensor``, 0 to 1. Any other transform is applied: the items are read one by one, once. Bytes and
    double precision become float32 there; other types are kept.

    Raises:
        UserCodeError: the items are not pairs of tensors, arrays or numbers of one shape.
    """
    fast = _read_fast(dataset)
    return fast if fast is not None else _read_items(dataset)


def _read_fast(dataset: TorchDataset[Any]) -> Dataset | None:
    """The data set if it can be read without its items, else None; a subclass may do anything in an item."""
    if type(dataset) is Dataset:
        return dataset
    if type(dataset) is TensorDataset:
        return Dataset(*dataset.tensors) if len(dataset.tensors) == 2 else None
    if type(dataset) is Subset:
        whole = _read_fast(dataset.dataset)
        return None if whole is None else whole.take(np.asarray(dataset.indices))
    return _read_torchvision(dataset)


def _read_torchvision(dataset: TorchDataset[Any]) -> Dataset | None:
    """The images of a class of torchvision's own, if its items are no more than image and class number."""
    if not type(dataset).__module__.startswith("torchvision.datasets."):
        return None
    if not _keeps_values(getattr(dataset, "transform", None)) or getattr(dataset, "target_transform", None):
        return None
    data, targets = getattr(dataset, "data", None), getattr(dataset, "targets", None)
    if not isinstance(data, torch.Tensor | np.ndarray) or not isinstance(targets, torch.Tensor | list):
        return None
    images, labels = torch.as_tensor(data), torch.as_tensor(targets)
    if images.dtype != torch.uint8 or labels.shape != images.shape[:1]:
        return None
    if images.ndim == 3:
        return Dataset(images.unsqueeze(1).to(torch.float32).div_(255), labels)
    if images.ndim == 4 and isinstance(data, np.ndarray):  # [N, height, width, channel], as CIFAR has it
        return Dataset(images.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255), labels)
    return None


def _keeps_values(transform: object) -> bool:
    kind = type(transform)
    return transform is None or (kind.__module__, kind.__name__) == (
        "torchvision.transforms.transforms",
        "ToTensor",
    )


def _read_items(dataset: TorchDataset[Any]) -> Dataset:
    inputs: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for number in range(_length(dataset)):
        item = dataset[number]
        try:
            value, label = item
            inputs.append(torch.as_tensor(value))
            labels.append(torch.as_tensor(label))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserCodeError(
                f"Item {number} of the {type(dataset).__name__} to be partitioned is not a pair of tensors: "
                f"{_describe(item)}.",
                "A data set returns (input, label). For images, give it a transform that makes tensors, such "
                "as torchvision's ToTensor().",
            ) from error
    return Dataset(_stack(inputs, "inputs"), _stack(labels, "labels"))


def _length(dataset: TorchDataset[Any]) -> int:
    try:
        return len(dataset)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserCodeError(
            f"A {type(dataset).__name__} has no length and can't be partitioned.",
            "Give the partition function a data set with __len__ and __getitem__.",
        ) from error


def _stack(values: Iterable[torch.Tensor], what: str) -> torch.Tensor:
    tensors = list(values)
    if not tensors:
        return torch.empty(0)
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        first, second, *_ = sorted(shapes)
        raise UserCodeError(
            f"The {what} of a data set to be partitioned differ in shape: {list(first)} and {list(second)}.",
            "Bring them to one shape, for example with torchvision's Resize.",
        )
    whole = torch.stack(tensors)
    narrow = what == "inputs" and whole.dtype in {torch.uint8, torch.float64}
    return whole.to(torch.float32) if narrow else whole


def _describe(item: object) -> str:
    if isinstance(item, tuple | list):
        return f"it is a {type(item).__name__} of {', '.join(type(part).__name__ for part in item[:4])}"
    return f"it is a {type(item).__name__}"
