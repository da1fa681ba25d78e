"""Random generators that a dataset owns, put back to where they stood when it was built."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch


def capture(*datasets: object) -> Callable[[], None]:
    """Remember the random generators of newly built datasets; the result puts them back to these states.

    A dataset that is kept for several tasks draws on from where the last task left its generators; called before
    each task, the result makes every task begin as with a dataset built anew.

    Found are instances of ``random.Random``, ``numpy.random.Generator``, ``numpy.random.RandomState`` and
    ``torch.Generator`` that are attributes of a dataset, or of a dataset that it wraps as its attribute
    ``dataset`` (as ``torch.utils.data.Subset`` does), to any depth. Not found are generators elsewhere, such as
    within a transform, a list of datasets or a closure, and those that a task makes or puts in another's place;
    nor is any other state of a dataset, such as a counter, put back.

    Args:
        datasets: any objects; those without attributes, such as None or a list, have nothing to remember.
    """
    restores = [_restorer(generator) for dataset in datasets for generator in _generators(dataset)]

    def restore() -> None:
        for put_back in restores:
            put_back()

    return restore


def _generators(dataset: object) -> Iterator[Any]:
    kinds = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
    seen: set[int] = set()
    while dataset is not None and id(dataset) not in seen:
        seen.add(id(dataset))
        # __dict__, not dir: reading a property could run the user's code.
        attributes: dict[str, object] = getattr(dataset, "__dict__", {})
        for value in attributes.values():
            # The system's randomness is a Random without a state.
            if isinstance(value, kinds) and not isinstance(value, random.SystemRandom):
                yield value
        dataset = attributes.get("dataset")


def _restorer(generator: Any) -> Callable[[], None]:
    if isinstance(generator, random.Random):
        return partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.Generator):
        return partial(setattr, generator.bit_generator, "state", generator.bit_generator.state)
    return partial(generator.set_state, generator.get_state())
