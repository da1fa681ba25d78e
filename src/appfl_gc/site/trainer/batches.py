"""Batches of a dataset, in an order that a seed fixes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from appfl_gc.protocol.errors import UserCodeError


def make_loader(
    dataset: Any,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    num_workers: int = 0,
    drop_last: bool = False,
) -> DataLoader[Any]:
    """A loader whose order, and whose workers' random generators, follow from ``seed`` alone.

    The order does not depend on ``num_workers``. An iterable dataset keeps its own order.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(dataset, IterableDataset):
        return DataLoader(
            dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            drop_last=drop_last,
            generator=generator,
            persistent_workers=False,
        )
    order: Sampler[int] = (
        RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
    )
    return DataLoader(
        dataset,
        batch_sampler=SkippingSampler(BatchSampler(order, batch_size, drop_last)),
        num_workers=num_workers,
        generator=generator,
        persistent_workers=False,
    )


class SkippingSampler(Sampler[list[int]]):
    """The batches of another sampler, whose next pass begins after the first ``skip``; later ones are whole."""

    def __init__(self, batches: BatchSampler) -> None:
        self._batches = batches
        self.skip = 0

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        return itertools.islice(iter(self._batches), skip, None)

    def __len__(self) -> int:
        return len(self._batches)


def split_batch(batch: Any) -> tuple[Any, Any]:
    """The inputs and the targets of a batch.

    Raises:
        UserCodeError: the batch is not a pair.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    if isinstance(batch, tuple | list):
        shape = f"{len(batch)} parts"
    elif isinstance(batch, Mapping):
        shape = f"a dict with {', '.join(str(key) for key in batch)}"
    else:
        shape = type(batch).__name__
    raise UserCodeError(
        f"A batch of the dataset is {shape}; VanillaTrainer needs pairs of inputs and targets.",
        "Let the dataset's __getitem__ return (inputs, target); the model gets inputs, which may be a dict, as "
        "its one argument. For other data write a trainer and name it with trainer_path.",
    )


def batch_length(targets: Any, inputs: Any) -> int:
    """How many samples a batch has: the first size of the first tensor found, 1 where there is none."""
    for tensor in tensors_in((targets, inputs)):
        return tensor.shape[0] if tensor.dim() else 1
    return 1


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of ``value``, also those in dicts, lists and tuples, in their order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)


def to_device(value: Any, device: torch.device) -> Any:
    """``value`` with every tensor in it, also in dicts, lists and tuples, moved to ``device``."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(to_device(item, device) for item in value)
    return value
