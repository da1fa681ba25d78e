"""The batches of a task, pass after pass, and the place in them where a later attempt goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from appfl_gc.payload import codec
from appfl_gc.payload.checksum import Checksum
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.checkpoints import CheckpointUnfitError
from appfl_gc.site.trainer import dataset_state
from appfl_gc.site.trainer.batches import SkippingSampler, tensors_in
from appfl_gc.site.trainer.random_state import generator_states, set_generators


class BatchStream:
    """The batches of a loader of ``make_loader``.

    Batches before the place are left out where they need not be read: a dataset with indices, read in this
    process. With worker processes they are read again, since a worker's random numbers follow from what it has read.
    An iterable dataset is read again from the random numbers that its pass began with; if it then gives another batch
    than it gave last, the place can't be found.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._generator: torch.Generator = loader.generator
        self._order = self._generator.get_state()
        self._start: dict[str, Any] | None = None
        self._taken = 0
        self._last: Any = None
        self._rest: Iterator[Any] | None = None

    def __len__(self) -> int:
        """Batches of a pass."""
        return len(self._loader)

    def one_pass(self) -> Iterator[Any]:
        """The batches of one pass, or what is left of one after ``go_on``.

        Raises:
            UserCodeError: a pass gives none, so that steps would be waited for without end.
        """
        rest, self._rest = self._rest, None
        if rest is None:
            self._order, self._taken = self._generator.get_state(), 0
            if not self._has_indices and self._loader.num_workers == 0:
                self._start = self._randomness()
            rest = iter(self._loader)
        for batch in rest:
            self._taken, self._last = self._taken + 1, batch
            yield batch
        if self._taken == 0:
            raise UserCodeError(
                "A pass over the training dataset gave no batch.",
                "Where it is an iterable dataset, let __iter__ start anew at each call and give as many samples as "
                "__len__ says.",
            )

    def passes(self) -> Iterator[Any]:
        """The batches of passes without end."""
        while True:
            yield from self.one_pass()

    def place(self) -> dict[str, Any]:
        """The place after the batch that was given last."""
        return {
            "order": self._order,
            "start": self._start,
            "taken": self._taken,
            "last": _checksum(self._last),
        }

    def go_on(self, place: Mapping[str, Any]) -> None:
        """Go to a ``place`` of another stream; the random generators of the process are then anywhere.

        Raises:
            CheckpointUnfitError: the data before it are not what they were.
        """
        self._order, self._start, self._taken = place["order"], place["start"], place["taken"]
        self._generator.set_state(self._order)
        sampler = self._loader.batch_sampler
        if self._has_indices and self._loader.num_workers == 0 and isinstance(sampler, SkippingSampler):
            sampler.skip = self._taken
            self._rest = iter(self._loader)
            return
        if self._start is not None:
            set_generators(self._start["process"])
            dataset_state.put_back(self._start["dataset"], self._loader.dataset)
        self._rest = iter(self._loader)
        for _ in range(self._taken):
            self._last = next(self._rest, None)
        if _checksum(self._last) != place["last"]:
            raise CheckpointUnfitError("The training dataset does not give the same batches again.")

    @property
    def _has_indices(self) -> bool:
        return isinstance(self._loader.batch_sampler, SkippingSampler)

    def _randomness(self) -> dict[str, Any]:
        return {"process": generator_states(), "dataset": dataset_state.current(self._loader.dataset)}


def _checksum(batch: Any) -> str:
    """Of the dense tensors in a batch."""
    running = Checksum()
    for tensor in tensors_in(batch):
        if tensor.layout is torch.strided and tensor.numel():
            running.update(codec.tensor_bytes(tensor))
    return str(running)
