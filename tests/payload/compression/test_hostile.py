"""Payloads of a stranger: refused with a sentence, whatever they say, without the memory that they ask for."""

from __future__ import annotations

import lzma
import resource
import struct
import zlib

import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appfl_gc.payload.codec import Encoding, Layout
from appfl_gc.payload.compression import container, lossless
from appfl_gc.payload.compression.container import Stream
from appfl_gc.payload.compression.packing import pack
from appfl_gc.protocol.compression import LOSSLESS, CompressionSettings
from appfl_gc.protocol.errors import UpdateRefusedError
from tests.payload.compression.states import model_state, packed_bytes, unpacked

STATE = {"a.weight": torch.randn(60, 50, generator=torch.Generator().manual_seed(5)), "b": torch.arange(40)}
LAYOUT = Encoding(STATE).layout
HEADER, ENTRY = 56, 16


def payload_of(chosen: CompressionSettings) -> bytearray:
    return packed_bytes(pack(Encoding(STATE), chosen))


def with_streams(layout: Layout, cutoff: int, streams: list[tuple[Stream, bytes]]) -> bytes:
    return container.head(layout, cutoff, [stream for stream, _ in streams]) + b"".join(d for _, d in streams)


@pytest.mark.parametrize("keep", [0, 7, 8, HEADER - 1, HEADER, HEADER + 5, HEADER + 2 * ENTRY, -1])
@pytest.mark.parametrize("lossy", [None, "int8", "SZ3"])
def test_a_truncated_payload_is_refused(keep: int, lossy: str | None) -> None:
    with pytest.raises(UpdateRefusedError):
        unpacked(payload_of(CompressionSettings(lossy, bound=1e-3))[:keep], LAYOUT)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(UpdateRefusedError, match="do not add up"):
        unpacked(payload_of(CompressionSettings()) + b"x", LAYOUT)


@pytest.mark.parametrize(
    "other",
    [
        {"a.weight": STATE["a.weight"].T.contiguous(), "b": STATE["b"]},
        {"a.weight": STATE["a.weight"].double(), "b": STATE["b"]},
        {"c.weight": STATE["a.weight"], "b": STATE["b"]},
        {"a.weight": STATE["a.weight"]},
    ],
)
def test_a_payload_of_other_tensors_is_refused(other: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UpdateRefusedError, match="other tensors than expected"):
        unpacked(packed_bytes(pack(Encoding(other), CompressionSettings())), LAYOUT)


def test_a_compressor_that_was_not_asked_for_is_refused() -> None:
    for sent, asked in [("SZ3", "ZFP"), ("SZ3", None), ("int8", "bfloat16")]:
        payload = payload_of(CompressionSettings(sent, bound=1.0))
        with pytest.raises(UpdateRefusedError, match="not asked for"):
            unpacked(payload, LAYOUT, CompressionSettings(asked, bound=1.0))
    with pytest.raises(UpdateRefusedError, match="lzma, which was not asked for"):
        unpacked(payload_of(CompressionSettings(lossless="lzma")), LAYOUT, CompressionSettings())


@pytest.mark.parametrize(
    "entry", [(9, 0), (0, 9), (1, 1), (2, 1), (255, 255)], ids=["method", "wrap", "sz3+", "zfp+", "both"]
)
def test_entries_that_no_encoder_writes_are_refused(entry: tuple[int, int]) -> None:
    payload = payload_of(CompressionSettings("int8", bound=1.0))
    payload[HEADER : HEADER + 2] = bytes(entry)
    with pytest.raises(UpdateRefusedError):
        unpacked(payload, LAYOUT)


def test_what_must_be_exact_cannot_come_by_a_lossy_compressor() -> None:
    payload = payload_of(CompressionSettings(None))
    payload[HEADER] = 3
    with pytest.raises(UpdateRefusedError, match="does not fit the tensor"):
        unpacked(payload, LAYOUT)


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 1, 10**6])
def test_sizes_that_lie_are_refused(size: int) -> None:
    payload = payload_of(CompressionSettings("SZ3", bound=1e-3))
    payload[HEADER + 8 : HEADER + 16] = struct.pack("<Q", size)
    with pytest.raises(UpdateRefusedError):
        unpacked(payload, LAYOUT)


@pytest.mark.parametrize("count", [0, 1, 3, 2**40, 2**64 - 1])
def test_a_count_of_pieces_that_lies_is_refused(count: int) -> None:
    payload = payload_of(CompressionSettings("int8"))
    payload[48:56] = struct.pack("<Q", count)
    with pytest.raises(UpdateRefusedError, match="number of pieces"):
        unpacked(payload, LAYOUT)


def bomb(name: str, size: int) -> bytes:
    if name == "zstd":
        return zstandard.ZstdCompressor().compress(bytes(size))
    if name == "zstd-unsaid":
        return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(size))
    if name == "zstd-frames":
        return zstandard.ZstdCompressor().compress(bytes(320)) * 1000
    if name == "lzma":
        return lzma.compress(bytes(size), preset=1)
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31 if name == "gzip" else 15)
    return deflate.compress(bytes(size)) + deflate.flush()


@pytest.mark.parametrize("name", ["zstd", "zstd-unsaid", "zstd-frames", "lzma", "zlib", "gzip"])
@pytest.mark.parametrize("size", [1 << 28, 319, 0])
def test_a_bomb_is_refused_without_its_memory(name: str, size: int) -> None:
    data, kind = bomb(name, size), name.partition("-")[0]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UpdateRefusedError, match="320 bytes"):
        lossless.decompress(memoryview(data), kind, 8, memoryview(bytearray(320)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_an_lzma_dictionary_larger_than_allowed_is_refused() -> None:
    data = lzma.compress(bytes(320), preset=9)  # asks for 64 MiB
    with pytest.raises(UpdateRefusedError):
        lossless.decompress(memoryview(data), "lzma", 8, memoryview(bytearray(320)))


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_bytes_there_and_back(name: str, width: int) -> None:
    data = memoryview(bytes(range(256)) * 10)
    stream = memoryview(lossless.compress(data, name, width))
    out = memoryview(bytearray(len(data)))
    lossless.decompress(stream, name, width, out)
    assert out == data
    for damaged in (stream[:-1], bytes(stream) + b"x", stream[1:], b""):
        with pytest.raises(UpdateRefusedError):
            lossless.decompress(memoryview(damaged), name, width, out)


GOOD = {
    lossy: bytes(payload_of(CompressionSettings(lossy, name, bound=1e-2)))
    for lossy, name in [
        (None, "zstd"),
        (None, "zlib"),
        ("int8", None),
        ("float16", "gzip"),
        ("bfloat16", "lzma"),
    ]
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    good=st.sampled_from(sorted(GOOD.values())),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
    early=st.booleans(),
    cut=st.integers(0, 40),
)
def test_damaged_bytes_are_refused_or_become_numbers(
    good: bytes, changes: list[tuple[float, int]], early: bool, cut: int
) -> None:
    damaged = bytearray(good)
    for place, value in changes:
        damaged[int(place * ((HEADER + 3 * ENTRY if early else len(damaged)) - 1))] = value
    damaged = damaged[: len(damaged) - cut * (cut < 5)]
    try:
        after = unpacked(damaged, LAYOUT)
    except UpdateRefusedError:
        return
    assert {name: (t.shape, t.dtype) for name, t in after.items()} == {
        name: (t.shape, t.dtype) for name, t in STATE.items()
    }


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UpdateRefusedError):
        unpacked(b"APPFLGCP" + data, LAYOUT)
    with pytest.raises(UpdateRefusedError):
        unpacked(data, LAYOUT)


@pytest.mark.parametrize("method", ["SZ3", "ZFP"])
def test_a_hostile_stream_of_a_decoder_in_cpp_is_refused(method: str) -> None:
    layout = Encoding({"weight": torch.zeros(2000)}).layout
    for data in (
        b"\xff" * 100,
        bytes(7000),
        b"zfp\x05" + b"\xff" * 60,
        struct.pack("<4sIQ", b"\x00", 1, 2**62),
    ):
        payload = with_streams(layout, 10, [(Stream(method, None, len(data)), data)])
        with pytest.raises(UpdateRefusedError, match=f"compressed by {method} is damaged"):
            unpacked(payload, layout)


@pytest.mark.parametrize("method", ["SZ3", "ZFP"])
def test_a_stream_of_more_numbers_than_the_tensor_has_is_refused(method: str) -> None:
    chosen = CompressionSettings(method, bound=1e-3)
    large = packed_bytes(pack(Encoding({"weight": torch.zeros(40_000)}), chosen))[HEADER + ENTRY :]
    layout = Encoding({"weight": torch.zeros(2000)}).layout
    payload = with_streams(layout, 10, [(Stream(method, None, len(large)), bytes(large))])
    with pytest.raises(UpdateRefusedError, match="the decoder refused it"):
        unpacked(payload, layout)


def test_numbers_that_are_none_reach_the_gate() -> None:
    """Finiteness is looked at where every update is; here only that decoding does not hide it."""
    state = {**model_state(), "nan": torch.tensor([float("nan")])}
    encoding = Encoding(state)
    after = unpacked(packed_bytes(pack(encoding, CompressionSettings("int8"))), encoding.layout)
    assert bool(after["nan"].isnan())
