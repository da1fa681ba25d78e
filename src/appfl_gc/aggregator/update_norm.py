"""How far an update moves the model, and a bound on it: what is absurd must not reach a mean."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from appfl_gc.aggregator.base import Block
from appfl_gc.aggregator.blocks import Span, runs, spans
from appfl_gc.aggregator.differences import differences
from appfl_gc.aggregator.ordered_sum import OrderedSum
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Layout, torch_dtype
from appfl_gc.payload.cores import available_cores
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.errors import UpdateRefusedError
from appfl_gc.protocol.update_spec import ITEM_SIZE

BYTES_PER_THREAD = 8 << 20
"""Bytes of an update for which a thread more is worth its start."""


def update_norm(
    arena: Arena, slot: int, start: Path, trained: frozenset[str], threads: int | None = None
) -> float:
    """The Euclidean norm of x - w over all elements that training changes, or of an update's differences.

    Computed block by block in float64: memory is a few blocks per thread, whatever the model's size. Its bits do not
    depend on the number of threads. Safe on several threads for different slots.

    Args:
        arena: holds the update x.
        slot: in which it lies.
        start: the file of the global model w that its client started from.
        trained: names of the tensors that training changes; those of other than floating dtypes do not count.
        threads: how many; None for the usable cores, as far as the update is large enough to employ them.

    Returns:
        the norm; infinite where its square is more than a float holds.

    Raises:
        AppflGcError: if the slot holds no update.
        TransferError: if ``start`` can't be read.
    """
    model = model_file.mapped(start)
    layout = Layout.of(model_file.read_spec(start))
    total = OrderedSum()

    def look(numbered: tuple[int, Span]) -> None:
        number, span = numbered
        segment = span.run.segment
        current = torch.frombuffer(
            model,
            dtype=torch_dtype(segment.dtype),
            count=span.end - span.begin,
            offset=layout.start + segment.offset + span.begin * ITEM_SIZE[segment.dtype],
        )
        updates = arena.block([slot], segment, span.begin, span.end)
        move = differences(Block(current, updates, segment.meaning, trained=True))[0]
        total.add(number, np.array(torch.dot(move, move).item()))

    found = [
        span
        for run in runs(arena.spec, trained, splits=True)
        if run.trained
        for span in spans(layout, run, 1)
    ]
    most = max(1, min(available_cores(), arena.layout.size // BYTES_PER_THREAD))
    for_each(enumerate(found), look, threads or most)
    return 0.0 if total.value is None else math.sqrt(total.value)


def check_norm(arena: Arena, slot: int, start: Path, trained: frozenset[str], largest: float) -> float:
    """``update_norm``, if it is no more than ``largest`` (``max_update_norm`` of the configuration).

    Raises:
        UpdateRefusedError: if it is more.
        AppflGcError, TransferError: as ``update_norm``.
    """
    norm = update_norm(arena, slot, start, trained)
    if norm > largest:
        raise UpdateRefusedError(
            f"The update has norm {norm:.6g}, above max_update_norm {largest:g}.",
            "Perhaps its training diverged, or its data are not what the others' are. "
            "server_configs.fault_tolerance_configs.max_update_norm sets how far one client may move the model.",
        )
    return norm
