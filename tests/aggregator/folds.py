"""Folds for tests: metas, models with every kind of tensor, arguments for every aggregator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from appfl_gc.aggregator.base import Aggregator, Block, Cohort
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.registry import BUILT, make_aggregator
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.update_spec import Meaning

State = dict[str, torch.Tensor]

KWARGS: dict[str, Any] = {
    "client_weights_mode": "sample_size",
    "server_learning_rate": 0.1,
    "server_adapt_param": 0.01,
    "server_momentum_param_1": 0.9,
    "server_momentum_param_2": 0.99,
    "alpha": 0.8,
    "K": 3,
    "staleness_fn": "polynomial",
    "staleness_fn_kwargs": {"a": 0.5},
    "trim_fraction": 0.2,
    "num_byzantine": 1,
    "num_selected": 2,
    "norm_bound": 100.0,
}
"""Arguments with which every aggregator can be made."""


def every() -> dict[str, Aggregator]:
    """One of each."""
    return {name: make_aggregator(name, KWARGS) for name in BUILT}


def metas(
    sizes: Sequence[int], steps: Sequence[int] = (), numbers: Sequence[Mapping[str, float]] = ()
) -> list[UpdateMeta]:
    """Metas of clients c0, c1 ... with these sample sizes, local steps (1) and numbers (none)."""
    return [
        UpdateMeta(
            UpdateId(f"c{i}", 1),
            0,
            size,
            steps[i] if steps else 1,
            Timing(0, 0, 0, 0),
            numbers[i] if numbers else {},
        )
        for i, size in enumerate(sizes)
    ]


def fold(
    aggregator: Aggregator,
    current: Sequence[float],
    updates: Sequence[Sequence[float]],
    the_metas: Sequence[UpdateMeta] | None = None,
    staleness: Sequence[int] | None = None,
    cohort: Cohort | None = None,
    *,
    delta: bool = False,
    trained: bool = True,
    dtype: torch.dtype = torch.float64,
) -> list[float]:
    """One fold of a model with one tensor."""
    known = list(the_metas or metas([1] * len(updates)))
    names = frozenset({"w"})
    model = InMemoryModel(
        {"w": torch.tensor(current, dtype=dtype)}, names if trained else frozenset(), aggregator
    )
    new = model.fold(
        [{"w": torch.tensor(update, dtype=dtype)} for update in updates],
        known,
        staleness or [0] * len(updates),
        cohort or Cohort(len(updates), sum(meta.sample_size for meta in known)),
        names if delta else frozenset(),
    )
    result: list[float] = new["w"].tolist()
    return result


def block(
    current: Sequence[float], updates: Sequence[Sequence[float]], meaning: Meaning = Meaning.VALUE
) -> Block:
    """A block of trained float64 elements."""
    return Block(
        torch.tensor(current, dtype=torch.float64), torch.tensor(updates, dtype=torch.float64), meaning, True
    )


TRAINED = frozenset({"conv.weight", "conv.bias", "half", "double", "nothing"})


def model(seed: int, width: int = 3000) -> State:
    """A model with tensors of many dtypes, trained and not, whose blocks do not end with its tensors."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(width, 5, generator=generator),
        "bn.running_mean": torch.randn(17, generator=generator),
        "bn.num_batches_tracked": torch.tensor(seed),
        "conv.bias": torch.randn(width, generator=generator),
        "half": torch.randn(33, generator=generator).bfloat16(),
        "double": torch.randn(4, generator=generator).double(),
        "mask": torch.rand(9, generator=generator) > 0.5,
        "nothing": torch.zeros(3, 0),
    }
