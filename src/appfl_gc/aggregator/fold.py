"""One fold of updates into a model, block by block, wherever model and updates lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import torch

from appfl_gc.aggregator.base import Aggregator, Block, Cohort, Seen
from appfl_gc.aggregator.blocks import Span, runs, spans
from appfl_gc.aggregator.ordered_sum import OrderedSum
from appfl_gc.aggregator.server_state import StateLayout
from appfl_gc.payload.codec import Layout, tensor_bytes, torch_dtype
from appfl_gc.payload.soundness import all_sound, describe, first_unsound, numbers_of
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE, UpdateSpec


class Rows(Protocol):
    """Where the updates are."""

    def __call__(self, span: Span) -> torch.Tensor:
        """The elements of ``span`` in each update: [K, b], in client order."""


Write = Callable[[memoryview, int], None]
"""Takes bytes, and how far from the start of the new file they belong."""


class Fold:
    """Updates, and the model and state that they are folded into. Safe for several threads.

    Args:
        aggregator: what folds a block.
        model: the global model's layout.
        state: the layout of the aggregator's state.
        updates: spec of the updates; its names, shapes and dtypes are the model's.
        trained: names of the tensors of parameters.
        count: K, the number of updates.
    """

    def __init__(
        self,
        aggregator: Aggregator,
        model: Layout,
        state: StateLayout,
        updates: UpdateSpec,
        trained: Collection[str],
        count: int,
    ) -> None:
        self._aggregator = aggregator
        self._model = model
        self._state = state
        splits = aggregator.splits or aggregator.looks or bool(aggregator.state)
        self._spans = [span for run in runs(updates, trained, splits) for span in spans(model, run, count)]

    def into(
        self,
        current: memoryview,
        old_state: memoryview | None,
        rows: Rows,
        metas: Sequence[UpdateMeta],
        staleness: Sequence[int],
        cohort: Cohort,
        write: Write,
        write_state: Write,
        threads: int,
    ) -> None:
        """Compute the new model and state and write them.

        Args:
            current: the model file's bytes.
            old_state: the state file's bytes; None for the rows' initial values.
            rows: where the updates are.
            metas, staleness, cohort: as for ``Aggregator.weights``.
            write: writes blocks of the new model.
            write_state: writes blocks of the new state.
            threads: how many.

        Raises:
            UserCodeError: if the aggregator returns blocks of another shape or dtype, or numbers that are not
                finite; names the tensor.
        """

        def block(span: Span) -> Block:
            run, count = span.run, span.end - span.begin
            dtype = torch_dtype(run.segment.dtype)
            before = torch.frombuffer(current, dtype=dtype, count=count, offset=self._place(span))
            state = self._state.block(old_state, span) if run.trained else {}
            return Block(before, rows(span), run.segment.meaning, run.trained, state)

        seen = self._look(block, threads) if self._aggregator.looks else None
        weights = self._aggregator.weights(metas, staleness, cohort, seen)

        def reduce(span: Span) -> None:
            before = block(span)
            after, state = self._aggregator.reduce(before, weights)
            self._check(after, before.current, span)
            write(tensor_bytes(after), self._place(span))
            for row, old in before.state.items():
                write_state(tensor_bytes(_narrow(state[row], old)), self._state.place(row, span))

        for_each(self._spans, reduce, threads)

    def _look(self, block: Callable[[Span], Block], threads: int) -> Seen | None:
        trained = [span for span in self._spans if span.run.trained]
        total = OrderedSum()

        def look(numbered: tuple[int, Span]) -> None:
            number, span = numbered
            total.add(number, self._aggregator.look(block(span)))

        for_each(enumerate(trained), look, threads)
        return total.value

    def _place(self, span: Span) -> int:
        segment = span.run.segment
        return self._model.start + segment.offset + span.begin * ITEM_SIZE[segment.dtype]

    def _check(self, after: torch.Tensor, before: torch.Tensor, span: Span) -> None:
        segment = span.run.segment
        offset = segment.offset + span.begin * ITEM_SIZE[segment.dtype]
        if after.shape != before.shape or after.dtype != before.dtype:
            tensor, _ = self._model.tensor_at(offset)
            raise UserCodeError(
                f"The aggregator returned {after.dtype} of shape {list(after.shape)} for a block of tensor "
                f"{tensor.name!r}; expected {before.dtype} of shape {list(before.shape)}."
            )
        if segment.dtype not in FLOATING:
            return
        values = numbers_of(tensor_bytes(after), segment.dtype)
        if not all_sound(values, segment.dtype):
            index = first_unsound(values, segment.dtype)
            tensor, element = self._model.tensor_at(offset + index * ITEM_SIZE[segment.dtype])
            problem = describe(tensor, element, values[index])
            raise UserCodeError(f"The aggregated model is not finite. {problem}")


def _narrow(state: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """``state`` in the dtype of ``old``, and no further than that reaches."""
    # A row that became infinite would stay so for ever.
    most = torch.finfo(old.dtype).max
    return state.clamp(-most, most).to(old.dtype)
