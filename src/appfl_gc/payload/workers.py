"""Work on several threads, each doing its tensor operations alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from appfl_gc.payload.cores import available_cores

Item = TypeVar("Item")

MOST_THREADS = 16


def for_each(items: Iterable[Item], work: Callable[[Item], None], threads: int | None = None) -> None:
    """Call ``work`` on every item. After an exception no more items are taken, and the first one is raised.

    Inside, tensor operations run on the calling thread only: then what they compute does not depend on the
    number of threads, and cores are not fought over.

    Args:
        items: taken in order by whichever thread is free.
        work: safe to run at the same time on different items.
        threads: how many, with the calling one; None for the usable cores, at most ``MOST_THREADS``.
    """
    rest, lock, failures = iter(items), threading.Lock(), list[BaseException]()

    def take_turns() -> None:
        torch.set_num_threads(1)
        try:
            while not failures:
                with lock:
                    item = next(rest, ended)
                if isinstance(item, _Ended):
                    return
                work(item)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            failures.append(error)

    ended = _Ended()
    others = [
        threading.Thread(target=take_turns, name=f"appfl-gc-work-{number}")
        for number in range(1, threads or min(available_cores(), MOST_THREADS))
    ]
    with alone():
        for thread in others:
            thread.start()
        take_turns()
        for thread in others:
            thread.join()
    if failures:
        raise failures[0]


class _Ended:
    """Stands for the item after the last."""


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
