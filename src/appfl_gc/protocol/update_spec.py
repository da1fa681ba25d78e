"""What an update must look like, agreed by trainer and aggregator before the first round."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass

from appfl_gc.protocol.wire import Json, WireError, as_count, as_key, as_object

ITEM_SIZE = {
    "float64": 8,
    "int64": 8,
    "float32": 4,
    "int32": 4,
    "bfloat16": 2,
    "float16": 2,
    "int16": 2,
    "uint8": 1,
    "int8": 1,
    "bool": 1,
}
FLOATING = frozenset({"float64", "float32", "bfloat16", "float16"})


class Meaning(str, enum.Enum):
    """How an update's tensor relates to the global model's tensor of the same name."""

    VALUE = "value"
    """The client's new value."""
    DELTA = "delta"
    """The global value that the client received minus its new value (``send_gradient: True``)."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: name, shape, dtype (a key of ``ITEM_SIZE``) and meaning in an update."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    meaning: Meaning = Meaning.VALUE

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the raw buffer."""
        return self.numel * ITEM_SIZE[self.dtype]


@dataclass(frozen=True)
class UpdateSpec:
    """The tensors of a model or an update, in the model's own order. Names are unique."""

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if len(set(names)) != len(names):
            raise WireError("A spec names a tensor twice.")
        for tensor in self.tensors:
            if tensor.dtype not in ITEM_SIZE:
                raise WireError(
                    f"Tensor {tensor.name} has dtype {tensor.dtype}; known are {', '.join(ITEM_SIZE)}."
                )

    @property
    def nbytes(self) -> int:
        """Bytes of all raw buffers."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def with_meaning(self, names: Iterable[str], meaning: Meaning) -> UpdateSpec:
        """A copy in which the tensors called ``names`` have ``meaning``."""
        chosen = set(names)
        return UpdateSpec(
            tuple(
                TensorSpec(t.name, t.shape, t.dtype, meaning if t.name in chosen else t.meaning)
                for t in self.tensors
            )
        )

    def to_json(self) -> list[Json]:
        """The JSON form."""
        return [
            {"name": t.name, "shape": list(t.shape), "dtype": t.dtype, "meaning": t.meaning.value}
            for t in self.tensors
        ]

    @classmethod
    def from_json(cls, value: Json) -> UpdateSpec:
        """Parse the JSON form; raises ``WireError``."""
        if not isinstance(value, list):
            raise WireError("The spec is not a list.")
        tensors = []
        for item in value:
            fields = as_object(item, "A tensor spec")
            shape = fields.get("shape")
            if not isinstance(shape, list):
                raise WireError("A tensor's shape is not a list.")
            sizes = tuple(as_count(size, "A tensor's size") for size in shape)
            try:
                meaning = Meaning(as_key(fields.get("meaning"), "A tensor's meaning"))
            except ValueError:
                raise WireError("A tensor's meaning is unknown.") from None
            name = as_key(fields.get("name"), "A tensor's name", 1000)
            tensors.append(TensorSpec(name, sizes, as_key(fields.get("dtype"), "A tensor's dtype"), meaning))
        return cls(tuple(tensors))
