"""The middle of each column of a matrix with few rows and many columns.

A sorting network orders all columns at once by minima and maxima of whole rows, which is several times faster than
sorting column by column. Batcher's odd-even merge sort, for any number of rows: Knuth, The Art of Computer
Programming, volume 3, section 5.2.2, Algorithm M.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

Comparator = tuple[int, int]
"""Two rows, the first to get the smaller values and the second the larger."""

MOST_ROWS = 256
"""With more, comparators are so many that sorting column by column is better where columns are few."""
WIDTH = 1 << 14
"""Columns that are ordered together: few enough to stay in cache, many enough to make a call's own cost small."""


def network(rows: int, wanted: Iterable[int]) -> list[Comparator]:
    """The comparators, in order, that bring the right values into the rows ``wanted`` of ``rows``."""
    needed, kept = set(wanted), []
    for low, high in reversed(list(_merge_sort(rows))):
        if low in needed or high in needed:
            kept.append((low, high))
            needed |= {low, high}
    return kept[::-1]


def _merge_sort(rows: int) -> Iterator[Comparator]:
    width = 1
    while width < rows:
        apart = width
        while apart:
            for start in range(apart % width, rows - apart, 2 * apart):
                for low in range(start, min(start + apart, rows - apart)):
                    if low // (2 * width) == (low + apart) // (2 * width):
                        yield low, low + apart
            apart //= 2
        width *= 2


class Sorting:
    """The values of each column that are left when the ``trimmed`` smallest and largest are taken away.

    Args:
        rows: K, from 1.
        trimmed: less than K / 2.
    """

    def __init__(self, rows: int, trimmed: int) -> None:
        self._left = slice(trimmed, rows - trimmed)
        self._network = network(rows, range(rows)[self._left]) if rows <= MOST_ROWS else None

    def middle(self, matrix: torch.Tensor) -> torch.Tensor:
        """The values left of each column of ``matrix`` [K, b], in ascending order: [K - 2 trimmed, b]."""
        if self._network is None:
            left = torch.sort(matrix, dim=0).values[self._left]
        else:
            left = torch.empty_like(matrix[self._left])
            for begin in range(0, matrix.shape[1], WIDTH):
                part = slice(begin, begin + WIDTH)
                left[:, part] = self._ordered(matrix[:, part], self._network)[self._left]
        # Which of two zeros of different sign comes first is left open; with one zero the bits are not.
        return left.add_(0) if matrix.is_floating_point() else left

    def _ordered(self, matrix: torch.Tensor, comparators: list[Comparator]) -> torch.Tensor:
        rows = torch.empty(matrix.shape, dtype=matrix.dtype).copy_(matrix)
        one_by_one = list(rows.unbind())
        smaller = torch.empty_like(one_by_one[0])
        for low, high in comparators:
            torch.minimum(one_by_one[low], one_by_one[high], out=smaller)
            torch.maximum(one_by_one[low], one_by_one[high], out=one_by_one[high])
            one_by_one[low], smaller = smaller, one_by_one[low]
        return torch.stack(one_by_one)
