"""Random generators that a dataset owns, put back to where they stood."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from appfl_gc.site.checkpoints import CheckpointUnfitError
from appfl_gc.site.trainer.plain_state import plain


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
    generators = [generator for dataset in datasets for generator in _generators(dataset)]
    states = [_state(generator) for generator in generators]

    def restore() -> None:
        for generator, state in zip(generators, states, strict=True):
            _put_back(generator, state)

    return restore


def current(*datasets: object) -> list[Any]:
    """The states of the generators that ``capture`` finds, of plain values and tensors."""
    return [plain(_state(generator)) for dataset in datasets for generator in _generators(dataset)]


def put_back(states: Sequence[Any], *datasets: object) -> None:
    """Put the generators of ``datasets`` to ``states``, as ``current`` gave them; raises ``CheckpointUnfitError``."""
    generators = [generator for dataset in datasets for generator in _generators(dataset)]
    if len(generators) != len(states):
        raise CheckpointUnfitError("The dataset has other random generators than before.")
    for generator, state in zip(generators, states, strict=True):
        try:
            _put_back(generator, state)
        except (TypeError, ValueError, LookupError, RuntimeError) as error:
            raise CheckpointUnfitError("The dataset has other random generators than before.") from error


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


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _put_back(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
