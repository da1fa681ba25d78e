"""The server's own state, such as a momentum: rows beside the trained tensors, in a file of the model's format.

Row ``m`` of tensor ``conv.weight`` is called ``m.conv.weight`` there. It is float64 where the tensor is, else
float32. A run's tensors lie in the file as they do in the model, row by row, so that a block of the model has one
block of each row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from appfl_gc.aggregator.blocks import Span
from appfl_gc.payload import codec, model_file
from appfl_gc.payload.codec import Layout, torch_dtype
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError, UserCodeError
from appfl_gc.protocol.update_spec import FLOATING, ITEM_SIZE, TensorSpec, UpdateSpec


class StateLayout:
    """Where the rows of state lie.

    Args:
        rows: names of the rows and what all their elements begin with.
        model: the global model's layout.
        trained: names of the tensors of parameters; those that are not floating have no state.
    """

    def __init__(self, rows: Mapping[str, float], model: Layout, trained: Collection[str]) -> None:
        self.rows = rows
        tensors = [
            TensorSpec(f"{row}.{tensor.name}", tensor.shape, _dtype(tensor.dtype))
            for row in rows
            for tensor, _ in model.placed()
            if tensor.name in trained and tensor.dtype in FLOATING
        ]
        self.layout = Layout.of(UpdateSpec(tuple(tensors)))
        names = (tensor.name for tensor in tensors)
        self._offsets = dict(zip(names, self.layout.offsets, strict=True))

    def place(self, row: str, span: Span) -> int:
        """Bytes from the start of the file to the elements of ``span`` in ``row``."""
        offset = self._offsets[f"{row}.{span.run.tensors[0]}"]
        return self.layout.start + offset + span.begin * ITEM_SIZE[_dtype(span.run.segment.dtype)]

    def block(self, buffer: memoryview | None, span: Span) -> dict[str, torch.Tensor]:
        """[b] of each row: of the file's bytes, or the initial values where there are none."""
        count, dtype = span.end - span.begin, torch_dtype(_dtype(span.run.segment.dtype))
        if buffer is None:
            return {row: torch.full((count,), value, dtype=dtype) for row, value in self.rows.items()}
        return {
            row: torch.frombuffer(buffer, dtype=dtype, count=count, offset=self.place(row, span))
            for row in self.rows
        }

    def mapped(self, file: Path | None) -> memoryview | None:
        """The bytes of a state file, mapped; None where there is none yet, or the aggregator keeps none.

        Raises:
            UserCodeError: if it is no state of this model and these rows.
            TransferError: if it can't be read.
        """
        if not self.rows or file is None or not file.exists():
            return None
        buffer = model_file.mapped(file)
        try:
            found = codec.read_spec(buffer)
        except UpdateRefusedError as error:
            raise TransferError(f"{file} is no state of an aggregator. {error.message}") from None
        problem = codec.difference(self.layout.spec, found)
        if problem:
            raise UserCodeError(
                f"The aggregator's state in {file} is of another model or aggregator. {problem}",
                "A run goes on with the aggregator that it began with.",
            )
        return buffer


def _dtype(of_tensor: str) -> str:
    return "float64" if of_tensor == "float64" else "float32"
