"""Model states for the tests of compression."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from appfl_gc.payload.codec import Encoding, Layout, tensor_bytes
from appfl_gc.payload.compression.packing import Packed, pack
from appfl_gc.payload.compression.unpacking import unpack_into
from appfl_gc.protocol.compression import CompressionSettings

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def model_state(dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, torch.Tensor]:
    """A small network's state: large and small weights, a bias, statistics, integers, an empty tensor."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "conv.weight": (normal(64, 32, 3, 3) * 0.02).to(dtype),
        "conv.bias": normal(64).to(dtype),
        "norm.running_var": (normal(3000).abs() * 1e-6).to(dtype),
        "norm.num_batches_tracked": torch.tensor(17),
        "empty": torch.empty(0, 4, dtype=dtype),
        "mask": normal(5, 7) > 0,
        "head.weight": (normal(70, 200) * 0.3).to(dtype),
    }


def packed_bytes(packed: Packed) -> bytearray:
    """The payload in memory."""
    data = bytearray(b"".join(packed.chunks()))
    assert len(data) == packed.size
    return data


def unpacked(
    payload: bytes | bytearray, layout: Layout, settings: CompressionSettings | None = None
) -> dict[str, torch.Tensor]:
    """What ``payload`` holds."""
    out = memoryview(bytearray(b"\xa5" * layout.size))
    unpack_into(memoryview(payload), layout, out, settings)
    assert out[: layout.start] == layout.header
    return layout.views(out)


def there_and_back(
    state: Mapping[str, torch.Tensor], settings: CompressionSettings
) -> tuple[Packed, dict[str, torch.Tensor]]:
    """``state`` packed, and unpacked again."""
    encoding = Encoding(state)
    packed = pack(encoding, settings)
    return packed, unpacked(packed_bytes(packed), encoding.layout, settings)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether every bit agrees, also of values that are no numbers."""
    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return same_kind and bytes(tensor_bytes(one)) == bytes(tensor_bytes(other))
