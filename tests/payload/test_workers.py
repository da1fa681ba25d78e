"""Work on several threads."""

from __future__ import annotations

import threading

import pytest
import torch

from appfl_gc.payload.workers import for_each


@pytest.mark.parametrize("threads", [1, 3])
def test_every_item_once_and_tensor_operations_alone(threads: int) -> None:
    lock, seen, counts = threading.Lock(), [], set()

    def work(item: int) -> None:
        with lock:
            seen.append(item)
            counts.add(torch.get_num_threads())

    for_each(range(50), work, threads)
    assert sorted(seen) == list(range(50))
    assert counts == {1}


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_is_raised_and_torch_left_as_it_was(threads: int) -> None:
    before = torch.get_num_threads()

    def work(item: int) -> None:
        if item == 7:
            raise KeyError(item)

    with pytest.raises(KeyError):
        for_each(range(10), work, threads)
    inherited: list[int] = []
    thread = threading.Thread(target=lambda: inherited.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *inherited] == [before, before]
