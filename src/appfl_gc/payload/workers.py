"""Work on several threads, each doing its tensor operations alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")

MOST_THREADS = 16


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(items: Iterable[Item], work: Callable[[Item], None], threads: int | None = None) -> None:
    """Call ``work`` on every item; the first exception is raised after the others have ended.

    Inside, tensor operations run on the calling thread only: then what they compute does not depend on the
    number of threads, and cores are not fought over.

    Args:
        items: taken in order by whichever thread is free.
        work: safe to run at the same time on different items.
        threads: None for the usable cores, at most ``MOST_THREADS``.
    """
    threads = threads or min(usable_cores(), MOST_THREADS)
    with alone():
        if threads == 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(work, item) for item in items]
        for future in futures:
            future.result()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Tensor operations inside run on the calling thread only."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        # This also undoes what threads that ended meanwhile left for those that begin later.
        torch.set_num_threads(before)
