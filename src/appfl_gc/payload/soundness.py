"""Whether numbers are finite, and bools are bools. Uses no torch, so that any thread may ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from appfl_gc.protocol.update_spec import FLOATING, TensorSpec

Numbers: TypeAlias = npt.NDArray[Any]

_EXPONENT = {"bfloat16": 0x7F80, "float16": 0x7C00}
"""Bits of the exponent, all set in what is not finite (IEEE 754; bfloat16 has float32's upper half)."""


def numbers_of(data: memoryview, dtype: str, count: int = -1, offset: int = 0) -> Numbers:
    """Elements of a tensor as numpy has them: two-byte floats and bools as unsigned integers.

    Args:
        data: elements in row-major order, little-endian.
        dtype: key of ``ITEM_SIZE``.
        count: elements; -1 for all.
        offset: bytes before the first.
    """
    # numpy has no bfloat16, and a bool that is neither 0 nor 1 may read as anything.
    kind = {"bool": "u1", "float16": "<u2", "bfloat16": "<u2"}.get(dtype, dtype)
    return np.frombuffer(data, dtype=kind, count=count, offset=offset)


def all_sound(block: Numbers, dtype: str) -> bool:
    """Whether a block is finite throughout, or a bool block holds 0 and 1 only.

    A sum carries every NaN and infinity to its result, at several times the speed of looking at each element;
    only where it is not finite, perhaps because finite numbers overflowed, each element is looked at.

    Args:
        block: elements as numpy has them; two-byte floats and bools as unsigned integers.
        dtype: key of ``ITEM_SIZE``.
    """
    if dtype not in _EXPONENT and dtype in FLOATING:
        with np.errstate(all="ignore"):
            if np.isfinite(np.add.reduce(block)):
                return True
    return not _unsound(dtype)(block).any()


def first_unsound(block: Numbers, dtype: str) -> int:
    """Index of the first element because of which ``all_sound`` is false."""
    return int(_unsound(dtype)(block).argmax())


def describe(tensor: TensorSpec, element: int, value: Any) -> str:
    """What is wrong with ``value``, which numpy has of one element of ``tensor``, as a sentence."""
    place = []
    for size in reversed(tensor.shape):
        element, position = divmod(element, size)
        place.append(position)
    where = f"tensor {tensor.name!r} ({tensor.dtype} of shape {list(tensor.shape)}) at index {place[::-1]}"
    if tensor.dtype == "bool":
        return f"A byte that is neither true nor false stands in {where}."
    kind = "NaN" if _is_nan(value, tensor.dtype) else "An infinite value"
    return f"{kind} stands in {where}; finite numbers are expected."


def _unsound(dtype: str) -> Callable[[Numbers], Numbers]:
    """What tells of each element whether it is not finite, or no bool."""
    if dtype == "bool":
        return lambda block: block > 1
    if dtype in _EXPONENT:
        bits = np.uint16(_EXPONENT[dtype])
        return lambda block: (block & bits) == bits
    return lambda block: ~np.isfinite(block)


def _is_nan(value: Any, dtype: str) -> bool:
    if dtype in _EXPONENT:
        return bool(int(value) & 0x7FFF & ~_EXPONENT[dtype])
    return bool(value != value)
