"""Numbers in fewer bits: bfloat16, float16, or 8 bits with one scale per block.

8-bit blocks: each ``BLOCK`` numbers are divided by a 127th of the largest of their magnitudes and rounded, so
that one large number spoils its own block only (block-wise quantisation with linear steps, as in Dettmers et
al., "8-bit optimizers via block-wise quantization", 2022). The error is at most 1/254 of that magnitude.
"""

from __future__ import annotations

import torch

from appfl_gc.payload.codec import tensor_bytes, torch_dtype
from appfl_gc.protocol.compression import INT8

BLOCK = 256
_STEPS = 127
_SCALE_BYTES = 4


def encoded_size(name: str, numel: int) -> int:
    """Bytes of ``numel`` numbers."""
    if name == INT8:
        return numel + _SCALE_BYTES * -(-numel // BLOCK)
    return 2 * numel


def width(name: str) -> int:
    """Bytes of an item in the encoded form."""
    return 1 if name == INT8 else 2


def encode(name: str, numbers: torch.Tensor) -> memoryview:
    """``numbers`` (flat, finite, floating) as ``encoded_size`` bytes: little-endian items, scales first.

    What does not fit the format becomes infinite or nought; the caller compares.
    """
    if name != INT8:
        return tensor_bytes(numbers.to(torch_dtype(name)))
    count = numbers.numel()
    blocks = torch.zeros(-(-count // BLOCK), BLOCK, dtype=_wide(numbers.dtype))
    blocks.view(-1)[:count] = numbers
    scales = (blocks.abs().amax(1) / _STEPS).to(torch.float32)
    divisors = torch.where(scales > 0, scales, 1).to(blocks.dtype)
    codes = blocks.div_(divisors[:, None]).round_().clamp_(-_STEPS, _STEPS).to(torch.int8)
    return memoryview(bytearray(tensor_bytes(scales)) + tensor_bytes(codes.view(-1)[:count]))


def decode(name: str, data: memoryview, out: torch.Tensor) -> None:
    """Write the numbers that ``data`` (writable, ``encoded_size`` bytes) holds to ``out`` (flat, floating)."""
    if name != INT8:
        out.copy_(torch.frombuffer(data, dtype=torch_dtype(name)))
        return
    count = out.numel()
    blocks = -(-count // BLOCK)
    scales = torch.frombuffer(data, dtype=torch.float32, count=blocks)
    codes = torch.frombuffer(data, dtype=torch.int8, count=count, offset=_SCALE_BYTES * blocks)
    wide = _wide(out.dtype)
    whole = count // BLOCK * BLOCK
    factors = scales.to(wide)
    if whole:
        numbers = codes[:whole].to(wide).view(-1, BLOCK)
        out[:whole] = numbers.mul_(factors[: whole // BLOCK, None]).view(-1)
    if whole < count:
        out[whole:] = codes[whole:].to(wide) * factors[-1]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
