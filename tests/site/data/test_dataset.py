"""Data sets as tensors, and reading other data sets into them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.data.dataset import Dataset, as_tensors


class Items(TorchDataset[Any]):
    """A data set that has items only, and counts how many were read."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.reads = 0

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.items[index]


def test_a_data_set_gives_pairs_slices_and_batches() -> None:
    data = Dataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
    assert len(data) == 6
    value, label = data[2]
    assert value.tolist() == [4.0, 5.0]
    assert label.item() == 2
    part, _ = data[1:3]
    assert part.data_ptr() == data.data_input[1].data_ptr()  # a view: slicing copies nothing
    batches = list(DataLoader(data, batch_size=4))
    assert [tuple(batch[0].shape) for batch in batches] == [(4, 2), (2, 2)]


def test_a_data_set_without_arguments_is_empty_and_lengths_must_agree() -> None:
    assert len(Dataset()) == 0
    with pytest.raises(UserCodeError, match="3 inputs but 2 labels"):
        Dataset(torch.zeros(3), torch.zeros(2))


def test_items_are_read_once_and_become_what_models_take() -> None:
    items = Items([(np.full((2, 2), number, dtype=np.float64), number) for number in range(5)])
    data = as_tensors(items)
    assert items.reads == 5
    assert data.data_input.dtype == torch.float32
    assert data.data_label.dtype == torch.int64
    assert data.data_input[3].tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_token_numbers_stay_whole_numbers() -> None:
    data = as_tensors(Items([(torch.tensor([1, 2]), 0), (torch.tensor([3, 4]), 1)]))
    assert data.data_input.dtype == torch.int64


def test_tensor_data_sets_and_subsets_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an item was read by itself")

    whole = TensorDataset(torch.arange(10.0), torch.arange(10))
    monkeypatch.setattr(TensorDataset, "__getitem__", refuse)
    data = as_tensors(Subset(Subset(whole, [8, 6, 4, 2]), [1, 3]))
    assert data.data_input.tolist() == [6.0, 2.0]
    assert data.data_label.tolist() == [6, 2]


def test_what_a_subclass_does_to_its_items_is_kept() -> None:
    class Doubled(Dataset):
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, torch.Tensor]:
            value, label = super().__getitem__(index)
            return value * 2, label

    assert as_tensors(Doubled(torch.ones(3), torch.zeros(3))).data_input.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([1, 2], "Item 0 of the Items .* it is a int"),
        ([(torch.zeros(2), 0), "no"], "Item 1 of the Items"),
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], r"inputs .* differ in shape: \[2\] and \[3\]"),
        ([({"a": 1}, 0)], "it is a tuple of dict, int"),
    ],
)
def test_items_that_are_no_pairs_of_tensors_are_an_error(items: list[Any], words: str) -> None:
    with pytest.raises(UserCodeError, match=words):
        as_tensors(Items(items))


def test_a_data_set_without_a_length_is_an_error() -> None:
    class Endless(TorchDataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return torch.zeros(1), 0

    with pytest.raises(UserCodeError, match="Endless has no length"):
        as_tensors(Endless())
