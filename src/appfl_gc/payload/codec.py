"""Tensors as bytes: the safetensors file format in one fixed layout per spec. Reading executes nothing.

A payload is eight bytes of header length (little-endian), a JSON header and the raw buffers, which any
safetensors reader opens. Two rules on top of the format make a payload a row of numbers: tensors lie by
(item size descending, dtype, place in the spec), so that each dtype is one contiguous segment without
padding, and spaces after the header put the first buffer at a multiple of 64 bytes. The JSON object names
the tensors in the spec's own order. The same spec therefore always has the same header, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from appfl_gc.protocol.errors import UpdateRefusedError, UserCodeError
from appfl_gc.protocol.update_spec import ITEM_SIZE, Meaning, TensorSpec, UpdateSpec
from appfl_gc.protocol.wire import WIRE_VERSION, Json, WireError, as_int, as_object, load_json

CODEC = "safetensors-1"
ALIGNMENT = 64
LONGEST_HEADER = 100_000_000

_FORMAT_NAME = {
    "float64": "F64",
    "int64": "I64",
    "float32": "F32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "int16": "I16",
    "uint8": "U8",
    "int8": "I8",
    "bool": "BOOL",
}
_DTYPE_NAME = {short: name for name, short in _FORMAT_NAME.items()}
_METADATA = "__metadata__"
_DELTAS = "appfl_gc.deltas"
_LONGEST_NAME = 1000


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a key of ``ITEM_SIZE``."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


@dataclass(frozen=True)
class Segment:
    """A contiguous stretch of elements of one dtype (and, in ``Layout.runs``, one meaning).

    Attributes:
        dtype: key of ``ITEM_SIZE``.
        meaning: of every tensor in it; ``VALUE`` where a segment may mix meanings.
        offset: bytes from the start of the data, a multiple of the item size.
        numel: elements.
    """

    dtype: str
    meaning: Meaning
    offset: int
    numel: int


@dataclass(frozen=True)
class Layout:
    """Where the bytes of a spec lie.

    Attributes:
        spec: what is laid out.
        header: length and JSON header with padding; the data begins at ``len(header)``.
        offsets: bytes from the start of the data, for each tensor of the spec in the spec's order.
    """

    spec: UpdateSpec
    header: bytes
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, spec: UpdateSpec) -> Layout:
        """The one layout of ``spec``."""
        offsets = [0] * len(spec.tensors)
        position = 0
        for index in _order(spec):
            offsets[index] = position
            position += spec.tensors[index].nbytes
        return cls(spec, _header(spec, offsets), tuple(offsets))

    @property
    def start(self) -> int:
        """Bytes before the data, a multiple of ``ALIGNMENT``."""
        return len(self.header)

    @property
    def size(self) -> int:
        """Bytes of the whole payload."""
        return len(self.header) + self.spec.nbytes

    def placed(self) -> list[tuple[TensorSpec, int]]:
        """Tensors with their offsets (bytes from the start of the data), by offset."""
        return [(self.spec.tensors[index], self.offsets[index]) for index in _order(self.spec)]

    def segments(self) -> list[Segment]:
        """One segment per dtype that has elements, by offset."""
        return self._merged(lambda tensor: (tensor.dtype, Meaning.VALUE))

    def runs(self) -> list[Segment]:
        """The longest stretches of one dtype and one meaning, by offset."""
        return self._merged(lambda tensor: (tensor.dtype, tensor.meaning))

    def _merged(self, kind: Any) -> list[Segment]:
        filled = [(tensor, offset) for tensor, offset in self.placed() if tensor.numel]
        result = []
        for (dtype, meaning), group in groupby(filled, key=lambda item: kind(item[0])):
            members = list(group)
            numel = sum(tensor.numel for tensor, _ in members)
            result.append(Segment(dtype, meaning, members[0][1], numel))
        return result

    def tensor_at(self, offset: int) -> tuple[TensorSpec, int]:
        """The tensor that holds the byte ``offset`` of the data, and the element's flat index in it."""
        for tensor, start in self.placed():
            if start <= offset < start + tensor.nbytes:
                return tensor, (offset - start) // ITEM_SIZE[tensor.dtype]
        raise IndexError(f"No tensor lies at byte {offset} of the data.")

    def views(self, buffer: memoryview) -> dict[str, torch.Tensor]:
        """Tensors over ``buffer`` (writable, ``size`` bytes) without copying, in the spec's order."""
        result = {}
        for tensor, offset in zip(self.spec.tensors, self.offsets, strict=True):
            dtype = torch_dtype(tensor.dtype)
            if tensor.numel == 0:
                result[tensor.name] = torch.empty(tensor.shape, dtype=dtype)
                continue
            flat = torch.frombuffer(buffer, dtype=dtype, count=tensor.numel, offset=self.start + offset)
            result[tensor.name] = flat.reshape(tensor.shape)
        return result


def _order(spec: UpdateSpec) -> list[int]:
    tensors = spec.tensors
    return sorted(range(len(tensors)), key=lambda i: (-ITEM_SIZE[tensors[i].dtype], tensors[i].dtype, i))


def _header(spec: UpdateSpec, offsets: list[int]) -> bytes:
    deltas = [tensor.name for tensor in spec.tensors if tensor.meaning is Meaning.DELTA]
    metadata = {"appfl_gc.codec": CODEC, "appfl_gc.wire": str(WIRE_VERSION)}
    if deltas:
        metadata[_DELTAS] = json.dumps(deltas, separators=(",", ":"))
    fields: dict[str, Json] = {_METADATA: dict(metadata)}
    for tensor, offset in zip(spec.tensors, offsets, strict=True):
        if tensor.name == _METADATA:
            raise UserCodeError(f"A tensor may not be called {_METADATA}: the file format uses that name.")
        fields[tensor.name] = {
            "dtype": _FORMAT_NAME[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def spec_of(state: Mapping[str, torch.Tensor], deltas: Collection[str] = ()) -> UpdateSpec:
    """The spec of ``state``, in its order; tensors named in ``deltas`` have meaning ``DELTA``.

    Raises:
        UserCodeError: if a value is no dense tensor of a dtype of ``ITEM_SIZE``, or a name is not printable.
    """
    tensors = []
    for name, tensor in state.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise UserCodeError(f"A tensor's name is not printable text of up to {_LONGEST_NAME} characters.")
        if not isinstance(tensor, torch.Tensor):
            raise UserCodeError(
                f"Entry {name!r} of the model's state is {type(tensor).__name__}, not a tensor.",
                "Only tensors travel between server and sites; keep other state out of state_dict().",
            )
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in ITEM_SIZE or tensor.layout is not torch.strided or tensor.device.type == "meta":
            raise UserCodeError(
                f"Tensor {name!r} is {tensor.layout} {tensor.dtype} on {tensor.device}: that cannot be sent.",
                f"Dense tensors of these dtypes can: {', '.join(ITEM_SIZE)}.",
            )
        meaning = Meaning.DELTA if name in deltas else Meaning.VALUE
        tensors.append(TensorSpec(name, tuple(tensor.shape), dtype, meaning))
    return UpdateSpec(tuple(tensors))


def difference(expected: UpdateSpec, found: UpdateSpec) -> str | None:
    """The first way in which ``found`` differs from ``expected``, as a sentence; None if they are equal."""
    theirs = {tensor.name: tensor for tensor in found.tensors}
    for tensor in expected.tensors:
        other = theirs.pop(tensor.name, None)
        if other is None:
            return f"Tensor {tensor.name!r} is missing; expected {_kind(tensor)}."
        if other != tensor:
            return f"Tensor {tensor.name!r} is {_kind(other)}; expected {_kind(tensor)}."
    if theirs:
        name, tensor = next(iter(theirs.items()))
        return f"Tensor {name!r} ({_kind(tensor)}) is not part of the model."
    if found != expected:
        return "The tensors are in another order than the model's."
    return None


def _kind(tensor: TensorSpec) -> str:
    text = f"{tensor.dtype} of shape {list(tensor.shape)}"
    return text if tensor.meaning is Meaning.VALUE else f"{text} (difference to the model that was sent)"


class Encoding:
    """A state laid out by its spec, not yet turned into bytes.

    Args:
        state: tensors by name, on any device, contiguous or not; they are read when bytes are asked for.
        spec: what they must be; names, shapes and dtypes have to agree. None: ``spec_of(state)``.

    Raises:
        UpdateRefusedError: if state and spec differ; names the first tensor that does.
        UserCodeError: if a tensor cannot be sent (see ``spec_of``).
    """

    def __init__(self, state: Mapping[str, torch.Tensor], spec: UpdateSpec | None = None) -> None:
        deltas = [] if spec is None else [t.name for t in spec.tensors if t.meaning is Meaning.DELTA]
        found = spec_of(state, deltas)
        if spec is not None:
            by_name = {tensor.name: tensor for tensor in found.tensors}
            ordered = [by_name.pop(tensor.name) for tensor in spec.tensors if tensor.name in by_name]
            problem = difference(spec, UpdateSpec((*ordered, *by_name.values())))
            if problem:
                raise UpdateRefusedError(problem)
        self.layout = Layout.of(spec or found)
        self._state = state

    codec = CODEC

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return self.layout.size

    def chunks(self) -> Iterator[memoryview]:
        """The bytes in order: the header, then each tensor. At most one tensor is copied at a time."""
        yield memoryview(self.layout.header)
        for tensor, _ in self.layout.placed():
            if tensor.numel:
                yield tensor_bytes(self._state[tensor.name])

    def write_into(self, buffer: memoryview) -> None:
        """Write the payload into the first ``size`` bytes of ``buffer``."""
        target = buffer.cast("B")
        position = 0
        for chunk in self.chunks():
            target[position : position + len(chunk)] = chunk
            position += len(chunk)


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The elements of ``tensor`` as bytes in row-major order, without a copy where they lie so in memory."""
    flat = tensor.detach().resolve_neg().cpu().contiguous().reshape(-1)
    view: memoryview = flat.view(torch.uint8).numpy().data
    return view


def decode(buffer: memoryview, spec: UpdateSpec) -> dict[str, torch.Tensor]:
    """Tensors of a payload as views of ``buffer``, which live as long as they are used. Nothing is executed.

    Args:
        buffer: exactly the payload's bytes; writable, else it is copied once.
        spec: what the payload must hold.

    Raises:
        UpdateRefusedError: if the header is not the one of ``spec``; names the tensor and what was expected.
    """
    layout = Layout.of(spec)
    check_header(buffer, layout)
    return layout.views(memoryview(bytearray(buffer)) if buffer.readonly else buffer)


def check_header(buffer: memoryview, layout: Layout) -> None:
    """Raise ``UpdateRefusedError`` unless ``buffer`` has the header and size of ``layout``."""
    if len(buffer) == layout.size and buffer[: layout.start] == layout.header:
        return
    length = int.from_bytes(buffer[:8], "little")
    if length > 2 * len(layout.header) + 65_536:
        raise UpdateRefusedError(
            f"The payload's header has {length:,} bytes; expected {len(layout.header):,}."
        )
    found = read_spec(buffer)
    problem = difference(layout.spec, found) or "Its header is written in another way than this version's."
    raise UpdateRefusedError(problem)


def read_spec(buffer: memoryview) -> UpdateSpec:
    """The spec of a payload, from its header; meanings are in the header's metadata.

    Raises:
        UpdateRefusedError: if the header is not of this format, or sizes do not add up to the payload's.
    """
    try:
        spec = _parse_header(buffer)
        layout = Layout.of(spec)
    except (WireError, UserCodeError) as error:
        raise UpdateRefusedError(f"The payload's header is not readable: {error}") from None
    if layout.size != len(buffer) or buffer[: layout.start] != layout.header:
        raise UpdateRefusedError(
            f"The payload has {len(buffer)} bytes and its tensors need {layout.size}, or they are laid out "
            "otherwise than this version does.",
            "Server and sites need versions of appfl_gc with the same codec.",
        )
    return spec


def _parse_header(buffer: memoryview) -> UpdateSpec:
    length = int.from_bytes(buffer[:8], "little")
    if len(buffer) < 8 or length > min(len(buffer) - 8, LONGEST_HEADER):
        raise WireError("The payload is shorter than its header says.")
    try:
        text = bytes(buffer[8 : 8 + length]).decode()
    except UnicodeDecodeError:
        raise WireError("The header is not text.") from None
    fields = as_object(load_json(text), "The header")
    metadata = as_object(fields.pop(_METADATA, {}), "The header's metadata")
    deltas = metadata.get(_DELTAS, "[]")
    listed = load_json(deltas) if isinstance(deltas, str) else None
    if not isinstance(listed, list):
        raise WireError("The header's list of deltas is not a list.")
    names = {name for name in listed if isinstance(name, str)}
    tensors = []
    for name, item in fields.items():
        entry = as_object(item, "A tensor of the header")
        shape, short = entry.get("shape"), entry.get("dtype")
        if not isinstance(shape, list) or not isinstance(short, str) or short not in _DTYPE_NAME:
            raise WireError("A tensor of the header has no shape or an unknown dtype.")
        sizes = tuple(as_int(size, "A tensor's size") for size in shape)
        if any(size < 0 for size in sizes) or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise WireError("A tensor of the header has a negative size or an unprintable name.")
        meaning = Meaning.DELTA if name in names else Meaning.VALUE
        tensors.append(TensorSpec(name, sizes, _DTYPE_NAME[short], meaning))
    return UpdateSpec(tuple(tensors))
