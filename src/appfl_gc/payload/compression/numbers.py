"""Bytes as numbers."""

from __future__ import annotations

import torch

from appfl_gc.payload.codec import torch_dtype


def numbers(data: memoryview, dtype: str) -> torch.Tensor:
    """The numbers in ``data``, flat; a view where ``data`` can be written to, otherwise a copy.

    Args:
        data: at least one number.
        dtype: key of ``ITEM_SIZE``.
    """
    return torch.frombuffer(bytearray(data) if data.readonly else data, dtype=torch_dtype(dtype))
