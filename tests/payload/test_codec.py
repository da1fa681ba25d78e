"""What any reader of a payload relies on: the format, the layout, and refusals that say what is wrong."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.payload import codec
from appfl_gc.payload.codec import Encoding, Layout, decode, read_spec, spec_of
from appfl_gc.protocol.errors import UpdateRefusedError, UserCodeError
from appfl_gc.protocol.update_spec import ITEM_SIZE, Meaning, TensorSpec, UpdateSpec

SHAPES = [(), (0,), (1,), (3, 5), (2, 0, 4), (7, 1, 2)]


def encoded(state: dict[str, torch.Tensor], spec: UpdateSpec | None = None) -> memoryview:
    encoding = Encoding(state, spec)
    buffer = memoryview(bytearray(encoding.size))
    encoding.write_into(buffer)
    return buffer


def of_dtype(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.randn(shape) * 3
    return (values > 0) if dtype == "bool" else values.abs().to(getattr(torch, dtype))


@st.composite
def states(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    names = draw(st.lists(st.text("abc.ü", min_size=1, max_size=6), unique=True, max_size=8))
    kinds = st.tuples(st.sampled_from(sorted(ITEM_SIZE)), st.sampled_from(SHAPES))
    torch.manual_seed(draw(st.integers(0, 1000)))
    return {name: of_dtype(*draw(kinds)) for name in names}


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)


@settings(max_examples=60, deadline=None)
@given(states())
def test_round_trip_is_bit_identical_and_keeps_the_order(state: dict[str, torch.Tensor]) -> None:
    buffer = encoded(state)
    result = decode(buffer, spec_of(state))
    assert list(result) == list(state)
    assert all(same(result[name], state[name]) for name in state)
    assert read_spec(buffer) == spec_of(state)


@settings(max_examples=60, deadline=None)
@given(states())
def test_any_safetensors_reader_opens_it(state: dict[str, torch.Tensor]) -> None:
    result = safetensors.torch.load(bytes(encoded(state)))
    assert result.keys() == state.keys()
    assert all(same(result[name], state[name]) for name in state)


@settings(max_examples=60, deadline=None)
@given(states())
def test_each_dtype_is_one_aligned_segment(state: dict[str, torch.Tensor]) -> None:
    layout = Layout.of(spec_of(state))
    assert layout.start % 64 == 0
    segments = layout.segments()
    assert len({segment.dtype for segment in segments}) == len(segments)
    assert sum(segment.numel * ITEM_SIZE[segment.dtype] for segment in segments) == layout.spec.nbytes
    assert all(segment.offset % ITEM_SIZE[segment.dtype] == 0 for segment in segments)


def test_layout_depends_on_the_spec_only() -> None:
    state = {"w": torch.randn(4, 4), "n": torch.tensor(1)}
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    start = Layout.of(spec_of(state)).start
    assert encoded(state)[:start] == encoded(other)[:start]


def test_views_share_memory_with_the_buffer_and_outlive_it() -> None:
    buffer = encoded({"w": torch.zeros(1000)})
    tensor = decode(buffer, read_spec(buffer))["w"]
    buffer[-4:] = torch.tensor([7.0]).numpy().tobytes()
    assert tensor[-1] == 7
    del buffer
    assert tensor.sum() == 7


def test_read_only_bytes_are_decoded() -> None:
    state = {"w": torch.arange(6.0)}
    assert same(decode(memoryview(bytes(encoded(state))), spec_of(state))["w"], state["w"])


def test_unusual_tensors_are_encoded_as_their_values() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "transposed": base.t(),
        "strided": base[:, ::2],
        "expanded": torch.tensor([1.0]).expand(5),
        "imaginary part": torch.view_as_complex(base.reshape(6, 2)).conj().imag,
        "sign flipped lazily": torch._neg_view(base),
        "parameter": torch.nn.Parameter(base),
        "scalar": torch.tensor(3.5, dtype=torch.bfloat16),
    }
    result = decode(encoded(state), spec_of(state))
    assert all(torch.equal(result[name], state[name]) for name in state)


def test_tied_weights_stand_under_each_name() -> None:
    weight = torch.randn(3, 3)
    result = decode(encoded({"a": weight, "b": weight}), spec_of({"a": weight, "b": weight}))
    assert torch.equal(result["a"], weight)
    assert torch.equal(result["b"], weight)


def test_deltas_travel_in_the_header_and_part_the_runs() -> None:
    state = {"w": torch.ones(2), "mean": torch.ones(3), "v": torch.ones(4)}
    spec = spec_of(state, deltas=["w", "v"])
    assert [tensor.meaning for tensor in spec.tensors] == [Meaning.DELTA, Meaning.VALUE, Meaning.DELTA]
    buffer = encoded(state, spec)
    assert read_spec(buffer) == spec
    assert [(run.meaning, run.numel) for run in Layout.of(spec).runs()] == [
        (Meaning.DELTA, 2),
        (Meaning.VALUE, 3),
        (Meaning.DELTA, 4),
    ]
    with pytest.raises(UpdateRefusedError, match=r"'w'.*difference to the model"):
        decode(buffer, spec_of(state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": torch.zeros(2, 3)}, r"'w' is float32 of shape \[2, 3\]; expected float32 of shape \[3, 2\]"),
        ({"w": torch.zeros(3, 2).double()}, "'w' is float64 .*expected float32"),
        ({"extra": torch.zeros(1)}, "'extra' .*not part of the model"),
    ],
)
def test_a_difference_names_the_tensor(change: dict[str, torch.Tensor], message: str) -> None:
    good = {"w": torch.zeros(3, 2), "b": torch.zeros(2)}
    with pytest.raises(UpdateRefusedError, match=message):
        decode(encoded(good | change), spec_of(good))
    with pytest.raises(UpdateRefusedError, match=message):
        Encoding(good | change, spec_of(good))
    with pytest.raises(UpdateRefusedError, match=r"'w' is missing"):
        Encoding({"b": good["b"]}, spec_of(good))


def test_another_order_of_the_state_is_brought_into_the_specs_order() -> None:
    state = {"a": torch.ones(1), "b": torch.zeros(1)}
    reversed_state = dict(reversed(state.items()))
    assert encoded(reversed_state, spec_of(state)) == encoded(state)


@pytest.mark.parametrize(
    "state",
    [
        {"c": torch.zeros(2, dtype=torch.complex64)},
        {"s": torch.eye(3).to_sparse()},
        {"m": torch.zeros(2, device="meta")},
        {"o": [1.0]},
        {"line\nbreak": torch.zeros(1)},
        {"__metadata__": torch.zeros(1)},
    ],
    ids=lambda state: next(iter(state)),
)
def test_what_cannot_travel_is_the_users_error(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UserCodeError):
        Encoding(state)


def header_of(text: object) -> memoryview:
    data = json.dumps(text).encode() if not isinstance(text, bytes) else text
    return memoryview(len(data).to_bytes(8, "little") + data)


@pytest.mark.parametrize(
    "payload",
    [
        memoryview(b""),
        memoryview(b"\xff" * 8),
        memoryview((1 << 62).to_bytes(8, "little") + b"{}"),
        header_of(b"\xff\xfe"),
        header_of(b"[" * 5000),
        header_of([]),
        header_of({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
        header_of({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]}}),
        header_of({"w": {"dtype": "pickle", "shape": [1], "data_offsets": [0, 4]}}),
        header_of({"__metadata__": {"appfl_gc.deltas": "{}"}}),
        header_of(b'{"w": 1, "w": 2}'),
    ],
)
def test_malformed_headers_are_refused_without_taking_memory(payload: memoryview) -> None:
    with pytest.raises(UpdateRefusedError):
        read_spec(payload)


def test_a_truncated_payload_is_refused() -> None:
    state = {"w": torch.ones(100)}
    buffer = encoded(state)
    for size in (4, 40, len(buffer) - 1):
        with pytest.raises(UpdateRefusedError):
            decode(buffer[:size], spec_of(state))


def test_every_dtype_of_the_protocol_has_a_name_in_the_format() -> None:
    assert codec._FORMAT_NAME.keys() == ITEM_SIZE.keys()
    spec = UpdateSpec(tuple(TensorSpec(name, (1,), name) for name in ITEM_SIZE))
    assert Layout.of(spec).spec.nbytes == sum(ITEM_SIZE.values())
