"""How a model is cut into blocks. The cuts depend on spec and number of updates only, and so do the bits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby

from appfl_gc.payload.codec import Layout, Segment
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE, TensorSpec, UpdateSpec

LARGEST_BLOCK = 1 << 17
"""Elements of a block; a multiple of what makes the cost of a call small, and small enough for the cache."""
SMALLEST_BLOCK = 1 << 12
LARGEST_ROWS = 1 << 21
"""Elements of one block in all updates: what may have to be copied where slots are not equally spaced."""


@dataclass(frozen=True)
class Run:
    """A contiguous stretch of elements that are folded alike.

    Attributes:
        segment: where, with dtype and meaning.
        trained: whether all of them belong to trained floating tensors.
        tensors: the tensors, in the order in which they lie; those without elements are left out.
    """

    segment: Segment
    trained: bool
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Span:
    """The elements ``begin`` to ``end`` of a run: a block."""

    run: Run
    begin: int
    end: int


def runs(updates: UpdateSpec, trained: Collection[str], splits: bool) -> list[Run]:
    """The longest stretches of one dtype and one meaning, by offset.

    Args:
        updates: names, shapes, dtypes and meanings.
        trained: names of the tensors of parameters.
        splits: whether a run may not hold both trained and other elements; if it may, none is called trained.
    """

    def kind(item: tuple[TensorSpec, int]) -> tuple[str, str, bool]:
        tensor = item[0]
        optimised = splits and tensor.dtype in FLOATING and tensor.name in trained
        return tensor.dtype, tensor.meaning.value, optimised

    filled = [(tensor, offset) for tensor, offset in Layout.of(updates).placed() if tensor.numel]
    result = []
    for (dtype, _, optimised), group in groupby(filled, key=kind):
        members = list(group)
        numel = sum(tensor.numel for tensor, _ in members)
        first, offset = members[0]
        segment = Segment(dtype, first.meaning, offset, numel)
        result.append(Run(segment, optimised, tuple(tensor.name for tensor, _ in members)))
    return result


def spans(layout: Layout, run: Run, rows: int) -> Iterator[Span]:
    """The blocks of ``run`` for that many updates.

    They end at multiples of the blocks' length in the model file of ``layout``, which fills whole pages.
    """
    segment, longest = run.segment, block_length(rows)
    before = (layout.start + segment.offset) // ITEM_SIZE[segment.dtype]
    begin = 0
    while begin < segment.numel:
        end = min(segment.numel, begin + longest - (before + begin) % longest)
        yield Span(run, begin, end)
        begin = end


def block_length(rows: int) -> int:
    """Elements of a block, a power of two: the more rows, the fewer."""
    length = LARGEST_BLOCK
    while length > SMALLEST_BLOCK and length * rows > LARGEST_ROWS:
        length //= 2
    return length
