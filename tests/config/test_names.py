from __future__ import annotations

import pytest

from appfl_gc.config.names import AGGREGATORS, SCHEDULERS, TORCH_LOSSES, TORCH_OPTIMISERS
from appfl_gc.config.schema.aggregator_kwargs import AGGREGATOR_KWARGS
from appfl_gc.config.schema.scheduler_kwargs import SCHEDULER_KWARGS


def test_the_names_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")

    optimisers = {
        name
        for name, item in vars(torch.optim).items()
        if isinstance(item, type)
        and issubclass(item, torch.optim.Optimizer)
        and item is not torch.optim.Optimizer
    }
    assert optimisers <= set(TORCH_OPTIMISERS)
    assert {name for name in dir(torch.nn) if name.endswith("Loss")} <= set(TORCH_LOSSES)


def test_every_table_of_kwargs_belongs_to_a_name() -> None:
    assert set(SCHEDULER_KWARGS) == set(SCHEDULERS)
    assert set(AGGREGATOR_KWARGS) <= set(AGGREGATORS)
