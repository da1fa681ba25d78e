"""What a process that only simulates does to be quick."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

import torch

OBJECTS = 100_000
"""New objects between two passes of the garbage collector."""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """One thread for tensors of a few numbers, and a garbage collector that comes seldom.

    With ten thousand clients each of its passes looks at everything that they are, and finds nothing: a third of
    the time. Both settings belong to the process and are put back at the end.
    """
    threads, thresholds = torch.get_num_threads(), gc.get_threshold()
    torch.set_num_threads(1)
    gc.set_threshold(OBJECTS, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        torch.set_num_threads(threads)
