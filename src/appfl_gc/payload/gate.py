"""What an update must pass before an aggregator sees it: its bytes, its header, and finite numbers."""

from __future__ import annotations

from appfl_gc.payload.checksum import Checksum, verify
from appfl_gc.payload.codec import Layout, Segment, check_header
from appfl_gc.payload.soundness import Numbers, all_sound, describe, first_unsound, numbers_of
from appfl_gc.protocol.errors import UpdateRefusedError
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE

BLOCK = 1 << 21
"""Bytes that are looked at together while they are in the processor's cache; a multiple of every item size."""


class Gate:
    """Looks at a payload once, also while it still arrives. Uses no torch, so that any thread may.

    Args:
        buffer: the whole payload's place; only read, and no further than ``see`` was told.
        layout: what the payload must be.
        expected_checksum: what its reference says; None where the bytes were verified before.

    Raises:
        TransferError: if the checksum's algorithm is unknown.
    """

    def __init__(self, buffer: memoryview, layout: Layout, expected_checksum: str | None) -> None:
        self._buffer = buffer
        self._layout = layout
        self._expected = expected_checksum
        self._checksum = None if expected_checksum is None else Checksum.like(expected_checksum)
        self._seen = 0
        self._fits = len(buffer) == layout.size
        self._suspect: tuple[Segment, int, Numbers] | None = None
        self._flats: list[tuple[Segment, int, Numbers]] = []
        if self._fits:
            segments = [s for s in layout.segments() if s.dtype in FLOATING or s.dtype == "bool"]
            self._flats = [
                (s, at, numbers_of(buffer, s.dtype, s.numel, at))
                for s, at in ((s, layout.start + s.offset) for s in segments)
            ]

    def see(self, arrived: int) -> None:
        """The first ``arrived`` bytes are there: look at every block that is complete."""
        size = len(self._buffer)
        while self._seen < size and (self._seen + BLOCK <= arrived or arrived >= size):
            end = min(self._seen + BLOCK, size)
            self._look(self._seen, end)
            self._seen = end

    def _look(self, begin: int, end: int) -> None:
        if self._checksum is not None:
            self._checksum.update(self._buffer[begin:end])
        if not self._fits or self._suspect is not None:
            return
        for segment, start, flat in self._flats:
            size = ITEM_SIZE[segment.dtype]
            first, last = max(0, (begin - start) // size), min(segment.numel, (end - start) // size)
            if first < last and not all_sound(flat[first:last], segment.dtype):
                self._suspect = segment, first, flat[first:last]
                return

    def finish(self) -> None:
        """Judge the payload, all of which is there.

        Raises:
            TransferError: if the bytes are not those of the checksum; a second transfer may help.
            UpdateRefusedError: if the header differs, a floating tensor has a NaN or infinite element or a bool
                tensor a byte other than 0 and 1; names tensor, element and what was expected.
        """
        self.see(len(self._buffer))
        if self._checksum is not None and self._expected is not None:
            verify(self._checksum, self._expected, "The update")
        check_header(self._buffer, self._layout)
        if self._suspect is None:
            return
        segment, first, block = self._suspect
        index = first + first_unsound(block, segment.dtype)
        tensor, element = self._layout.tensor_at(segment.offset + index * ITEM_SIZE[segment.dtype])
        raise UpdateRefusedError(
            describe(tensor, element, block[index - first]),
            "Often the learning rate is too high, or the data hold such values.",
        )
