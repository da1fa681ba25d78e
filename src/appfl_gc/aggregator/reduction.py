"""From updates in an arena to the file of the next global model, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from appfl_gc.aggregator.base import Aggregator
from appfl_gc.aggregator.user_class import UserClassAggregator
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Layout, Segment, difference, tensor_bytes, torch_dtype
from appfl_gc.payload.cores import available_cores
from appfl_gc.payload.files import replacing, write_all_at
from appfl_gc.payload.soundness import all_sound, describe, first_unsound, numbers_of
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE, Meaning

LARGEST_BLOCK = 1 << 17
"""Elements of a block; a multiple of what makes the cost of a call small, and small enough for the cache."""
SMALLEST_BLOCK = 1 << 12
LARGEST_ROWS = 1 << 21
"""Elements of one block in all updates: what may have to be copied where slots are not equally spaced."""
MODEL_BYTES_PER_THREAD = 40 << 20
"""Bytes of model for which a thread more is worth its blocks, which take about a fifth of that."""


def aggregate(
    aggregator: Aggregator | UserClassAggregator,
    current: Path,
    arena: Arena,
    slots: Sequence[int],
    metas: Sequence[UpdateMeta],
    staleness: Sequence[int],
    out: Path,
    threads: int | None = None,
    durable: bool = True,
) -> None:
    """Write the next global model, by blocks or by a user's class that wants whole models.

    Such a class gets copies of the updates, since it may keep what it gets, and the arena's slots are used again.
    They take memory for all updates at once; a class that wants whole models has them in memory anyway.

    Args:
        aggregator: what folds the updates.
        current: the model file of the current version.
        arena: holds the updates in ``slots``, in client order; ``metas`` and ``staleness`` belong to them.
        out: the new model file.
        threads, durable: as for ``reduce_model``.

    Raises:
        UserCodeError: if the aggregator fails or returns something else than a finite model of the same spec.
        OSError: if ``out`` cannot be written.
    """
    if isinstance(aggregator, UserClassAggregator):
        models = {
            meta.update.client: {name: tensor.clone() for name, tensor in arena.state(slot).items()}
            for meta, slot in zip(metas, slots, strict=True)
        }
        spec = model_file.read_spec(current)
        model_file.write(aggregator.aggregate(spec, models, metas, staleness), out, spec, durable=durable)
        return
    reduce_model(
        aggregator, current, arena, slots, aggregator.weights(metas, staleness), out, threads, durable
    )


def reduce_model(
    aggregator: Aggregator,
    current: Path,
    arena: Arena,
    slots: Sequence[int],
    weights: Sequence[float],
    out: Path,
    threads: int | None = None,
    durable: bool = True,
) -> None:
    """Fold the updates in ``slots`` into the model file ``current`` and write the model file ``out``.

    Each block of the new model goes straight into the new file, which is written aside and renamed. Memory
    taken is a few blocks per thread, whatever the model's size and the number of updates. Block boundaries
    depend on spec and number of updates only, and rows are in client order: the bits depend neither on the
    order of arrival, nor on slots, nor on threads.

    Args:
        aggregator: what folds a block.
        current: the model file of the current version; its names, shapes and dtypes are the arena's.
        arena: holds the updates.
        slots: one per update, in client order.
        weights: one per update, from ``aggregator.weights``.
        out: the new model file.
        threads: None for the usable cores, as far as the model is large enough to employ them.
        durable: return when the file is on the disk; else a power failure, but no crash of the program, may
            take it.

    Raises:
        UserCodeError: if the aggregator returns blocks of another shape or dtype, or numbers that are not
            finite; names the tensor.
        OSError: if ``out`` cannot be written; nothing is left of it then.
    """
    old = model_file.mapped(current)
    layout = Layout.of(model_file.read_spec(current))
    plain = arena.spec.with_meaning([tensor.name for tensor in arena.spec.tensors], Meaning.VALUE)
    problem = difference(plain, layout.spec)
    if problem:
        raise UserCodeError(f"The global model does not fit the updates. {problem}")
    longest = _block_length(len(slots))
    blocks = [block for run in arena.layout.runs() for block in _blocks(layout, run, longest)]
    most = max(1, min(available_cores(), arena.layout.size // MODEL_BYTES_PER_THREAD))
    with replacing(out, fsync=durable) as fd:
        write_all_at(fd, memoryview(layout.header), 0)

        def reduce_block(block: tuple[Segment, int, int]) -> None:
            run, begin, end = block
            place = layout.start + run.offset + begin * ITEM_SIZE[run.dtype]
            before = torch.frombuffer(old, dtype=torch_dtype(run.dtype), count=end - begin, offset=place)
            after = aggregator.reduce(before, arena.block(slots, run, begin, end), weights, run.meaning)
            _check_block(after, before, layout, run, begin)
            write_all_at(fd, tensor_bytes(after), place)

        for_each(blocks, reduce_block, threads or most)


def _blocks(layout: Layout, run: Segment, longest: int) -> Iterator[tuple[Segment, int, int]]:
    """The blocks of ``run``. They end at multiples of ``longest`` elements of the file, which fills whole pages."""
    before = (layout.start + run.offset) // ITEM_SIZE[run.dtype]
    begin = 0
    while begin < run.numel:
        end = min(run.numel, begin + longest - (before + begin) % longest)
        yield run, begin, end
        begin = end


def _block_length(rows: int) -> int:
    """Elements of a block, a power of two: the more rows, the fewer."""
    length = LARGEST_BLOCK
    while length > SMALLEST_BLOCK and length * rows > LARGEST_ROWS:
        length //= 2
    return length


def _check_block(after: torch.Tensor, before: torch.Tensor, layout: Layout, run: Segment, begin: int) -> None:
    if after.shape != before.shape or after.dtype != before.dtype:
        tensor, _ = layout.tensor_at(run.offset + begin * ITEM_SIZE[run.dtype])
        raise UserCodeError(
            f"The aggregator returned {after.dtype} of shape {list(after.shape)} for a block of tensor "
            f"{tensor.name!r}; expected {before.dtype} of shape {list(before.shape)}."
        )
    if run.dtype not in FLOATING:
        return
    values = numbers_of(tensor_bytes(after), run.dtype)
    if not all_sound(values, run.dtype):
        index = first_unsound(values, run.dtype)
        tensor, element = layout.tensor_at(run.offset + (begin + index) * ITEM_SIZE[run.dtype])
        problem = describe(tensor, element, values[index])
        raise UserCodeError(f"The aggregated model is not finite. {problem}")
