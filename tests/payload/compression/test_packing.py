"""Tensors there and back: what is kept, what changes and by how much."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appfl_gc.payload.codec import Encoding
from appfl_gc.payload.compression import plan
from appfl_gc.payload.compression.packing import largest_packed, pack
from appfl_gc.payload.compression.unpacking import unpack_into
from appfl_gc.protocol.compression import LOSSLESS, CompressionSettings
from appfl_gc.protocol.errors import StorageError, TransferError, VersionError
from tests.payload.compression.states import (
    DTYPES,
    model_state,
    packed_bytes,
    same_bits,
    there_and_back,
    unpacked,
)

EVERY = [
    CompressionSettings(),
    CompressionSettings(lossless=None),
    CompressionSettings("SZ3", bound=1e-3, mode="REL"),
    CompressionSettings("ZFP", bound=1e-3, mode="REL"),
    CompressionSettings("bfloat16"),
    CompressionSettings("float16"),
    CompressionSettings("int8"),
]


@pytest.mark.parametrize("lossless", [*LOSSLESS, None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_without_loss_every_bit_is_kept(lossless: str | None, dtype: torch.dtype) -> None:
    state = {**model_state(dtype), "odd.weight": torch.tensor([math.nan, math.inf, -0.0] * 1000).to(dtype)}
    packed, after = there_and_back(state, CompressionSettings(lossless=lossless))
    assert all(same_bits(state[name], after[name]) for name in state)
    assert packed.largest_error == 0
    assert lossless is None or packed.ratio > 1.05


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chosen", EVERY[2:], ids=lambda chosen: str(chosen.lossy))
def test_only_large_weights_change(chosen: CompressionSettings, dtype: torch.dtype) -> None:
    state = model_state(dtype)
    packed, after = there_and_back(state, chosen)
    changed = {name for name in state if not same_bits(state[name], after[name])}
    assert changed <= {"conv.weight", "head.weight"}
    largest = (
        max(float((state[n].double() - after[n].double()).abs().max()) for n in changed) if changed else 0.0
    )
    assert packed.largest_error == largest
    if dtype in (torch.float32, torch.float64):
        assert changed == {"conv.weight", "head.weight"}


@pytest.mark.parametrize(
    ("chosen", "ratio"),
    [
        (CompressionSettings("SZ3", bound=1e-3, mode="REL"), 3.0),
        (CompressionSettings("SZ3", bound=1e-2, mode="REL"), 5.0),
        (CompressionSettings("ZFP", bound=1e-3, mode="REL"), 1.9),
        (CompressionSettings("bfloat16"), 2.3),
        (CompressionSettings("float16"), 1.9),
        (CompressionSettings("int8"), 3.5),
    ],
    ids=lambda value: getattr(value, "lossy", None),
)
def test_weights_become_shorter(chosen: CompressionSettings, ratio: float) -> None:
    weights = {"layer.weight": torch.randn(400, 500, generator=torch.Generator().manual_seed(1)) * 0.02}
    packed, _ = there_and_back(weights, chosen)
    size = sum(map(len, packed.chunks()))
    assert packed.ratio == Encoding(weights).size / size
    assert packed.ratio > ratio


def test_smooth_tensors_become_much_shorter() -> None:
    smooth = {"field.weight": torch.linspace(0, 20, 200_000).sin()}
    packed, _ = there_and_back(smooth, CompressionSettings("SZ3", bound=1e-3, mode="REL"))
    assert packed.ratio > 500


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_numbers_of_16_bits_become_shorter_by_sz3_too(dtype: torch.dtype) -> None:
    weights = {"weight": (torch.randn(100_000, generator=torch.Generator().manual_seed(1)) * 0.02).to(dtype)}
    packed, _ = there_and_back(weights, CompressionSettings("SZ3", bound=1e-3, mode="REL"))
    assert packed.ratio > 1.7


def test_the_cutoff_counts_elements() -> None:
    state = {f"{size}.weight": torch.randn(size) for size in (999, 1000, 1001)}
    _, after = there_and_back(state, CompressionSettings("int8", cutoff=1000))
    assert [name for name in state if not same_bits(state[name], after[name])] == ["1001.weight"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_eight_bits_err_by_half_a_step_of_their_block_at_most(dtype: torch.dtype) -> None:
    blocks = torch.randn(20, 256) * torch.logspace(-3, 3, 20)[:, None]
    weight = torch.cat([blocks.flatten(), torch.tensor([5e-4, -1e-5])]).to(dtype)
    _, after = there_and_back({"weight": weight}, CompressionSettings("int8", cutoff=0))
    error = (after["weight"].double() - weight.double()).abs()
    rounding = weight.double().abs() * torch.finfo(dtype).eps
    for start in range(0, len(weight), 256):
        block = slice(start, start + 256)
        step = float(weight[block].double().abs().max()) / 127
        assert bool((error[block] <= step * 0.5001 + rounding[block]).all())


floats = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-2, 2, width=32), st.just(0.0)
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.lists(floats, min_size=1, max_size=40),
    repeat=st.integers(1, 30),
    dtype=st.sampled_from(DTYPES),
    lossy=st.sampled_from(["SZ3", "ZFP", "bfloat16", "float16", "int8"]),
    mode=st.sampled_from(["ABS", "REL", "ABS_AND_REL", "ABS_OR_REL", "PSNR", "NORM"]),
    exponent=st.integers(-6, 1),
    noise=st.integers(0, 2**32),
)
def test_the_bound_is_kept(
    values: list[float], repeat: int, dtype: torch.dtype, lossy: str, mode: str, exponent: int, noise: int
) -> None:
    bound = 10.0 * (exponent + 8) if mode == "PSNR" else 10.0**exponent
    shift = torch.rand(
        len(values) * repeat, generator=torch.Generator().manual_seed(noise), dtype=torch.float64
    )
    weight = (torch.tensor(values, dtype=torch.float64).repeat(repeat) * (0.5 + shift)).to(dtype)
    chosen = CompressionSettings(lossy, "zstd", mode, bound, cutoff=0)
    # The decoder is the one that the encoder compares with; here the confined process is not needed.
    after = _decoded_here({"weight": weight}, chosen)["weight"]
    if not bool(weight.isfinite().all()):
        assert same_bits(weight, after)
        return
    before = weight.double()
    error, span = (after.double() - before).abs(), float(before.max() - before.min())
    allowed = {
        "ABS": bound,
        "REL": bound * span,
        "ABS_AND_REL": min(bound, bound * span),
        "ABS_OR_REL": max(bound, bound * span),
    }
    mean_square = float(error.square().mean())
    if mode == "PSNR":
        assert mean_square <= span**2 * 10 ** (-bound / 10) * (1 + 1e-12)
    elif mode == "NORM":
        assert mean_square * len(weight) <= bound**2 * (1 + 1e-12)
    else:
        assert float(error.max()) <= allowed[mode]


def _decoded_here(state: dict[str, torch.Tensor], chosen: CompressionSettings) -> dict[str, torch.Tensor]:
    from appfl_gc.payload.compression import foreign, unpacking

    class Here:
        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None: ...
        def decode(self, name: str, stream: memoryview, numbers: object) -> None:
            import numpy as np

            assert isinstance(numbers, np.ndarray)
            numbers[:] = foreign.decode(name, np.frombuffer(stream, np.uint8), numbers.dtype, len(numbers))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpacking, "Decoders", Here)
        return there_and_back(state, chosen)[1]


@pytest.mark.parametrize("lossy", ["SZ3", "ZFP"])
@pytest.mark.parametrize("mode", ["REL", "PSNR"])
def test_the_bound_holds_for_a_tensor_of_many_pieces(
    lossy: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PIECE_BYTES", 1 << 14)
    weight = torch.randn(50_000, generator=torch.Generator().manual_seed(3))
    weight[:4096] *= 100  # the range is the tensor's, not the piece's
    bound = 1e-4 if mode == "REL" else 70.0
    packed, after = there_and_back({"weight": weight}, CompressionSettings(lossy, "zstd", mode, bound))
    error = (after["weight"].double() - weight.double()).abs()
    span = float(weight.max() - weight.min())
    if mode == "REL":
        assert 0.1 * bound * span < float(error.max()) <= bound * span
    else:
        assert 10 * math.log10(span**2 / float(error.square().mean())) >= bound
    assert packed.ratio > 2


def test_a_tensor_with_a_value_that_is_no_number_keeps_every_bit() -> None:
    weight = torch.randn(5000)
    weight[77] = math.nan
    state = {"bad.weight": weight, "good.weight": torch.randn(5000)}
    for chosen in EVERY[2:]:
        _, after = there_and_back(state, chosen)
        assert same_bits(after["bad.weight"], weight)
        assert not same_bits(after["good.weight"], state["good.weight"])


def test_values_beyond_float16_keep_every_bit() -> None:
    state = {"weight": torch.full((5000,), 1e6)}
    assert same_bits(there_and_back(state, CompressionSettings("float16"))[1]["weight"], state["weight"])


def test_a_bound_that_bfloat16_breaks_keeps_every_bit() -> None:
    state = {"weight": torch.rand(5000) + 100}
    _, after = there_and_back(state, CompressionSettings("bfloat16", bound=1e-3))
    assert same_bits(after["weight"], state["weight"])


@pytest.mark.parametrize("chosen", EVERY, ids=lambda chosen: f"{chosen.lossy}-{chosen.lossless}")
def test_the_same_tensors_give_the_same_bytes(
    chosen: CompressionSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PIECE_BYTES", 1 << 12)
    encoding = Encoding(model_state())
    one, other = pack(encoding, chosen, threads=1), pack(encoding, chosen, threads=4)
    assert packed_bytes(one) == packed_bytes(other) == packed_bytes(one)


@pytest.mark.parametrize("chosen", EVERY, ids=lambda chosen: f"{chosen.lossy}-{chosen.lossless}")
@pytest.mark.parametrize("numel", [1, 3, 255, 1025, 5000])
def test_no_payload_is_larger_than_said(chosen: CompressionSettings, numel: int) -> None:
    noise = torch.randint(-(2**31), 2**31, (numel,), dtype=torch.int32).view(torch.float32)
    encoding = Encoding({"weight": noise, "b": torch.ones(1), "c": torch.ones(2, dtype=torch.int64)})
    assert pack(encoding, chosen).size <= largest_packed(encoding.layout)


def test_a_model_without_numbers() -> None:
    for state in ({}, {"empty": torch.empty(0)}):
        packed, after = there_and_back(state, CompressionSettings("SZ3", bound=1.0))
        assert list(after) == list(state)
        assert packed.size == sum(map(len, packed.chunks()))


def test_memory_does_not_grow_with_the_model() -> None:
    size = 1 << 27
    encoding = Encoding({"weight": torch.zeros(size // 4).uniform_()})
    pack(Encoding({"weight": torch.rand(1 << 21)}), CompressionSettings("bfloat16"), threads=1)
    done, most, start = threading.Event(), [0], _anonymous()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], _anonymous() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    packed = pack(encoding, CompressionSettings("bfloat16"), threads=1)
    done.set()
    thread.join()
    assert most[0] < size // 3
    assert packed.ratio > 2


def _anonymous() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def test_compressed_bytes_lie_in_the_directory_without_a_name(tmp_path: Path) -> None:
    packed = pack(Encoding(model_state()), CompressionSettings(), tmp_path)
    assert not list(tmp_path.iterdir())
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    del packed


def test_a_directory_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone"):
        pack(Encoding(model_state()), CompressionSettings(), tmp_path / "gone")


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: object, _offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(TransferError, match="No space left on device"):
        pack(Encoding(model_state()), CompressionSettings())


@pytest.mark.parametrize(("lossy", "package"), [("SZ3", "pysz"), ("ZFP", "zfpy"), (None, "zstandard")])
def test_a_missing_package_is_said_with_how_to_install_it(
    lossy: str | None, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    encoding = Encoding(model_state())
    chosen = CompressionSettings(lossy, bound=1e-3)
    payload = packed_bytes(pack(encoding, chosen))
    monkeypatch.setitem(sys.modules, package, None)
    for attempt in (lambda: pack(encoding, chosen), lambda: unpacked(payload, encoding.layout)):
        with pytest.raises(VersionError, match=package) as error:
            attempt()
        assert f"pip install {package}" in error.value.hint


def test_unpacking_writes_nothing_but_the_payload() -> None:
    encoding = Encoding(model_state())
    payload = packed_bytes(pack(encoding, CompressionSettings("int8")))
    around = memoryview(bytearray(b"\xa5" * (encoding.size + 128)))
    unpack_into(memoryview(payload), encoding.layout, around[64:-64])
    assert around[:64] == around[-64:] == b"\xa5" * 64
