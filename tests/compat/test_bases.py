"""Aggregators and schedulers in the style of user files."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from appfl_gc.compat.bases import BaseAggregator, BaseScheduler
from appfl_gc.protocol.source import Source
from appfl_gc.site.source_loader import SourceLoader


def test_an_aggregator_file_loads_and_works(tmp_path: Path) -> None:
    text = """
        import torch
        from appfl.algorithm.aggregator import BaseAggregator

        class MeanAggregator(BaseAggregator):
            def aggregate(self, local_models, **kwargs):
                total = sum(self.client_sample_size.values())
                names = next(iter(local_models.values()))
                return {
                    name: sum(self.client_sample_size[c] / total * m[name] for c, m in local_models.items())
                    for name in names
                }
    """
    source = Source("aggregator", "", "mean.py", textwrap.dedent(text))
    aggregator = SourceLoader(tmp_path).load(source).target(None, {}, None)
    assert isinstance(aggregator, BaseAggregator)
    aggregator.set_client_sample_size("a", 1)
    aggregator.set_client_sample_size("b", 3)
    result = aggregator.aggregate({"a": {"w": torch.tensor([4.0])}, "b": {"w": torch.tensor([8.0])}})
    assert result["w"].item() == 7.0


def test_what_a_subclass_does_not_define_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"aggregate\(\)"):
        BaseAggregator().aggregate({})
    with pytest.raises(NotImplementedError, match=r"schedule\(\)"):
        BaseScheduler().schedule("client", {})
    with pytest.raises(NotImplementedError, match=r"get_num_global_epochs\(\)"):
        BaseScheduler().get_num_global_epochs()


def test_the_global_model_is_the_models_state() -> None:
    model = torch.nn.Linear(2, 1)
    assert BaseAggregator(model).get_parameters().keys() == {"weight", "bias"}
