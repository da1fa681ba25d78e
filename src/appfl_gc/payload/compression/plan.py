"""How a payload's data is cut into pieces: what a layout and a cutoff say, and nothing else.

Encoder and decoder make the same plan, so a payload need not say where its pieces lie, and cannot lie about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from appfl_gc.payload.codec import Layout
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE, TensorSpec

PIECE_BYTES = 1 << 22
"""Most bytes of a piece: what one thread holds at a time."""
KEEP_ALL = (1 << 63) - 1
"""A cutoff that no tensor reaches."""


@dataclass(frozen=True)
class Piece:
    """A stretch of a payload's data that is compressed by itself.

    Attributes:
        offset: bytes from the start of the data.
        nbytes: from 1 to ``PIECE_BYTES``, a multiple of the item size.
        dtype: of all its numbers, a key of ``ITEM_SIZE``.
        exact: whether every bit has to be kept; then it may span tensors, otherwise it lies in one.
    """

    offset: int
    nbytes: int
    dtype: str
    exact: bool

    @property
    def width(self) -> int:
        """Bytes of one number."""
        return ITEM_SIZE[self.dtype]

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return self.nbytes // self.width


def may_change(tensor: TensorSpec, cutoff: int) -> bool:
    """Whether a lossy compressor may have the tensor: floating, larger than ``cutoff``, and weights.

    Weights are what has "weight" in its name or more than one dimension. Others, such as running statistics of
    a normalisation, are kept: a variance near zero must not become negative.
    """
    weights = "weight" in tensor.name or len(tensor.shape) > 1
    return tensor.dtype in FLOATING and tensor.numel > cutoff and weights


def stretches(layout: Layout, cutoff: int) -> Iterator[Piece]:
    """Each tensor that may change by itself; neighbours of one dtype that may not, together. By offset.

    These are pieces of any size; see ``pieces``.
    """
    kept: Piece | None = None
    for tensor, offset in layout.placed():
        if not tensor.numel:
            continue
        one = Piece(offset, tensor.nbytes, tensor.dtype, not may_change(tensor, cutoff))
        if kept is not None and one.exact and one.dtype == kept.dtype:
            kept = Piece(kept.offset, kept.nbytes + one.nbytes, kept.dtype, True)
            continue
        if kept is not None:
            yield kept
        kept = one if one.exact else None
        if not one.exact:
            yield one
    if kept is not None:
        yield kept


def cut(stretch: Piece) -> Iterator[Piece]:
    """``stretch`` in pieces of at most ``PIECE_BYTES``."""
    for start in range(0, stretch.nbytes, PIECE_BYTES):
        size = min(PIECE_BYTES, stretch.nbytes - start)
        yield Piece(stretch.offset + start, size, stretch.dtype, stretch.exact)


def pieces(layout: Layout, cutoff: int) -> list[Piece]:
    """All pieces of ``layout``, by offset; together they are its data."""
    return [piece for stretch in stretches(layout, cutoff) for piece in cut(stretch)]


def most_pieces(layout: Layout) -> int:
    """No cutoff makes more pieces than this."""
    return sum(-(-tensor.nbytes // PIECE_BYTES) for tensor in layout.spec.tensors)
