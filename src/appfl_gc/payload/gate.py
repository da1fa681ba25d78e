"""What an update must pass before an aggregator sees it: its bytes, its header, and finite numbers."""

from __future__ import annotations

import torch

from appfl_gc.payload import checksum
from appfl_gc.payload.codec import Layout, Segment, check_header, torch_dtype
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE, TensorSpec

BLOCK = 1 << 21
"""Bytes that are looked at together while they are in the processor's cache; a multiple of every item size."""


def check(buffer: memoryview, layout: Layout, expected_checksum: str) -> None:
    """Check a whole payload in one pass over its bytes.

    Args:
        buffer: the payload; only read.
        layout: what it must be.
        expected_checksum: what its reference says.

    Raises:
        TransferError: if the bytes are not those of the checksum; a second transfer may help.
        UpdateRefusedError: if the header differs, a floating tensor has a NaN or infinite element or a bool
            tensor a byte other than 0 and 1; names tensor, element and what was expected.
    """
    fits = len(buffer) == layout.size and buffer[: layout.start] == layout.header
    segments = [s for s in layout.segments() if s.dtype in FLOATING or s.dtype == "bool"] if fits else []
    flats = [(s, layout.start + s.offset, _flat(buffer, layout, s)) for s in segments]
    suspect: tuple[Segment, int, torch.Tensor] | None = None
    hasher = checksum.start_for(expected_checksum)
    for begin in range(0, len(buffer), BLOCK):
        end = min(begin + BLOCK, len(buffer))
        hasher.update(buffer[begin:end])
        for segment, start, flat in flats:
            size = ITEM_SIZE[segment.dtype]
            first, last = max(0, (begin - start) // size), min(segment.numel, (end - start) // size)
            if first < last and suspect is None and not all_sound(flat[first:last]):
                suspect = segment, first, flat[first:last]
    if checksum.text(hasher) != expected_checksum:
        raise TransferError("The update arrived with other bytes than were sent: its checksum differs.")
    if not fits:
        check_header(buffer, layout)
    if suspect is not None:
        segment, first, block = suspect
        index = first + first_unsound(block)
        tensor, element = layout.tensor_at(segment.offset + index * ITEM_SIZE[segment.dtype])
        value = block[index - first].item() if segment.dtype in FLOATING else None
        raise UpdateRefusedError(
            describe(tensor, element, value),
            "Often the learning rate is too high, or the data hold such values.",
        )


def all_sound(block: torch.Tensor) -> bool:
    """Whether a floating block is finite throughout, or a bool block (given as uint8) holds 0 and 1 only.

    A sum carries every NaN and infinity to its result, at several times the speed of looking at each element;
    only where it is not finite, perhaps because finite numbers overflowed, each element is looked at.
    """
    if not block.is_floating_point():
        return int(block.max()) <= 1
    wide = torch.float64 if block.dtype is torch.float64 else torch.float32
    return bool(block.sum(dtype=wide).isfinite()) or bool(block.isfinite().all())


def first_unsound(block: torch.Tensor) -> int:
    """Index of the first element because of which ``all_sound`` is false."""
    bad = ~block.isfinite() if block.is_floating_point() else block > 1
    return int(bad.to(torch.uint8).argmax())


def describe(tensor: TensorSpec, element: int, value: float | None) -> str:
    """What is wrong with one element, as a sentence. ``value`` is None for a bool tensor."""
    place = []
    for size in reversed(tensor.shape):
        element, position = divmod(element, size)
        place.append(position)
    where = f"tensor {tensor.name!r} ({tensor.dtype} of shape {list(tensor.shape)}) at index {place[::-1]}"
    if value is None:
        return f"A byte that is neither true nor false stands in {where}."
    return (
        f"{'NaN' if value != value else 'An infinite value'} stands in {where}; finite numbers are expected."
    )


def _flat(buffer: memoryview, layout: Layout, segment: Segment) -> torch.Tensor:
    # Bytes of a bool tensor are looked at as numbers: torch may do anything with a bool that is neither 0 nor 1.
    dtype = torch.uint8 if segment.dtype == "bool" else torch_dtype(segment.dtype)
    return torch.frombuffer(buffer, dtype=dtype, count=segment.numel, offset=layout.start + segment.offset)
