"""A global model in memory, for simulations: what ``reduction.aggregate`` does between files, to the same bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.blocks import Run, Span, block_length
from appfl_gc.aggregator.fold import Fold, Write
from appfl_gc.aggregator.server_state import StateLayout
from appfl_gc.aggregator.user_class import UserClassAggregator, by_client
from appfl_gc.payload.codec import Encoding
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import Meaning

State = Mapping[str, torch.Tensor]


class InMemoryModel:
    """The global model and its aggregator's state, without files.

    Args:
        state: the initial model, tensors by name; it is copied.
        trained: names of the tensors of parameters.
        aggregator: what folds updates.

    Raises:
        UserCodeError: if ``state`` is no model's (see ``codec.spec_of``).
    """

    def __init__(
        self, state: State, trained: frozenset[str], aggregator: Aggregator | UserClassAggregator
    ) -> None:
        encoding = Encoding(state)
        self._layout = encoding.layout
        self._trained = trained
        self._aggregator = aggregator
        self._model = memoryview(bytearray(self._layout.size))
        encoding.write_into(self._model)
        self._rows = StateLayout(aggregator.state, self._layout, trained)
        self._state: memoryview | None = None
        self._folds: dict[tuple[frozenset[str], int], Fold] = {}

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """The model's tensors by name. Not to be written to; they stay as they are when there is a newer model."""
        return self._layout.views(self._model)

    def fold(
        self,
        updates: Sequence[State],
        metas: Sequence[UpdateMeta],
        staleness: Sequence[int],
        cohort: Cohort,
        deltas: frozenset[str] = frozenset(),
    ) -> dict[str, torch.Tensor]:
        """Fold updates into the model.

        Args:
            updates: tensors by name, in client order, of the model's names, shapes and dtypes (not checked).
            metas: of the same updates.
            staleness: of the same updates, in versions.
            cohort: all clients of the run.
            deltas: names of the tensors that hold differences: received minus new.

        Returns:
            the new model, as ``state``.

        Raises:
            UserCodeError: if the aggregator fails, or the new model is not finite.
        """
        if isinstance(self._aggregator, UserClassAggregator):
            return self._fold_whole(self._aggregator, updates, metas, staleness)
        model = memoryview(bytearray(self._layout.size))
        model[: self._layout.start] = self._layout.header
        state = memoryview(bytearray(self._rows.layout.size))
        self._fold_of(self._aggregator, deltas, len(updates)).into(
            self._model,
            self._state,
            _Stacked(updates),
            metas,
            staleness,
            cohort,
            _into(model),
            _into(state),
            threads=1,
        )
        self._model = model
        self._state = state if self._rows.rows else None
        return self.state

    def _fold_of(self, aggregator: Aggregator, deltas: frozenset[str], count: int) -> Fold:
        key = (deltas, block_length(count))
        if key not in self._folds:
            spec = self._layout.spec.with_meaning(deltas, Meaning.DELTA)
            self._folds[key] = Fold(aggregator, self._layout, self._rows, spec, self._trained, count)
        return self._folds[key]

    def _fold_whole(
        self,
        aggregator: UserClassAggregator,
        updates: Sequence[State],
        metas: Sequence[UpdateMeta],
        staleness: Sequence[int],
    ) -> dict[str, torch.Tensor]:
        new = aggregator.aggregate(self._layout.spec, by_client(updates, metas), metas, staleness)
        model = memoryview(bytearray(self._layout.size))
        Encoding(new, self._layout.spec).write_into(model)
        self._model = model
        return self.state


def _into(buffer: memoryview) -> Write:
    def write(data: memoryview, place: int) -> None:
        buffer[place : place + len(data)] = data

    return write


class _Stacked:
    """Rows made of updates that lie in memory as tensors."""

    def __init__(self, updates: Sequence[State]) -> None:
        self._updates = updates
        self._run: Run | None = None
        self._flat: list[torch.Tensor] = []

    def __call__(self, span: Span) -> torch.Tensor:
        run = span.run
        if run is not self._run:
            self._run, self._flat = run, [_flat(update, run.tensors) for update in self._updates]
        if span.end - span.begin == run.segment.numel:
            return torch.stack(self._flat)
        return torch.stack([flat[span.begin : span.end] for flat in self._flat])


def _flat(update: State, names: Sequence[str]) -> torch.Tensor:
    tensors = [update[name].detach().reshape(-1) for name in names]
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
