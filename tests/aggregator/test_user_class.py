"""Users' own aggregator classes: how they are built and fed, and what is said when they go wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.user_class import UserClassAggregator, adapt
from appfl_gc.payload.codec import spec_of
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta

STATE = {"w": torch.ones(2), "n": torch.tensor(1)}
METAS = [UpdateMeta(UpdateId(name, 1), 0, size, 5, Timing(0, 0, 0)) for name, size in (("a", 1), ("b", 3))]


def run(aggregator: Any, states: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    assert isinstance(aggregator, UserClassAggregator)
    return aggregator.aggregate(spec_of(STATE), states or {"a": STATE, "b": STATE}, METAS, [0, 2])


class Published:
    """As published aggregators are written: configuration object, sample sizes, keeps the model itself."""

    def __init__(self, model: Any = None, aggregator_configs: Any = None, logger: Any = None) -> None:
        self.model, self.configs, self.logger = model, aggregator_configs, logger
        self.sizes: dict[str, int] = {}
        self.state: dict[str, torch.Tensor] = {}

    def get_parameters(self) -> dict[str, torch.Tensor]:
        return self.state

    def set_client_sample_size(self, client_id: str, sample_size: int) -> None:
        self.sizes[client_id] = sample_size

    def aggregate(self, local_models: dict[str, dict[str, torch.Tensor]], **kwargs: Any) -> Any:
        total = sum(self.sizes.values())
        self.state = {
            "w": sum(state["w"] * self.sizes[client] / total for client, state in local_models.items()),
            "n": local_models["a"]["n"],
        }
        self.kwargs = kwargs
        return self.state


def test_published_style() -> None:
    aggregator = adapt(Published, {"alpha": 0.5}, model="the model", logger="the logger")
    assert isinstance(aggregator, UserClassAggregator)
    published = aggregator.instance
    assert (published.model, published.configs.alpha, published.logger) == ("the model", 0.5, "the logger")
    result = run(aggregator, {"a": STATE, "b": {**STATE, "w": torch.full((2,), 5.0)}})
    assert result["w"].tolist() == [4.0, 4.0]
    assert published.kwargs["staleness"] == {"a": 0, "b": 2}
    assert published.kwargs["local_steps"] == {"a": 5, "b": 5}


def test_a_class_that_returns_nothing_is_asked_for_its_parameters() -> None:
    class Silent(Published):
        def aggregate(self, local_models: dict[str, dict[str, torch.Tensor]], **kwargs: Any) -> Any:
            self.state = dict(local_models["b"])

    assert run(adapt(Silent, {}))["w"].tolist() == [1, 1]


def test_a_plain_class_gets_its_arguments_by_name() -> None:
    class Plain:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def aggregate(self, local_models: dict[str, dict[str, torch.Tensor]]) -> Any:
            return {name: tensor * int(self.factor) for name, tensor in local_models["a"].items()}

    assert run(adapt(Plain, {"factor": 3}))["w"].tolist() == [3, 3]
    with pytest.raises(UserCodeError, match=r"Plain cannot be constructed.*speed"):
        adapt(Plain, {"speed": 3})


def test_a_native_class_is_used_as_it_is() -> None:
    class Native(FedAvgAggregator):
        pass

    injected = {"num_clients": 2, "gradient_based": False}
    aggregator = adapt(Native, {"client_weights_mode": "sample_size", **injected})
    assert isinstance(aggregator, Native)
    assert aggregator.client_weights_mode == "sample_size"


def test_a_class_with_neither_interface() -> None:
    with pytest.raises(UserCodeError, match="neither aggregate"):
        adapt(dict, {})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "NoneType"),
        ([torch.ones(2)], "list"),
        ({"w": torch.ones(2)}, "'n' is missing"),
        ({**STATE, "x": torch.ones(1)}, "'x'"),
        ({**STATE, "w": torch.ones(3)}, r"'w' .*\[3\]; expected .*\[2\]"),
        ({**STATE, "w": torch.ones(2).double()}, "'w' is float64"),
        ({**STATE, "w": 1.0}, "'w' .*not a tensor"),
        ({**STATE, "w": torch.tensor([0.0, float("nan")])}, r"NaN.*'w'.*\[1\]"),
    ],
)
def test_what_comes_back_is_checked(result: Any, message: str) -> None:
    class Wrong:
        def aggregate(self, local_models: dict[str, dict[str, torch.Tensor]]) -> Any:
            return result

    with pytest.raises(UserCodeError, match=message):
        run(adapt(Wrong, {}))


def test_an_exception_in_the_class_names_it() -> None:
    class Raises:
        def aggregate(self, local_models: dict[str, dict[str, torch.Tensor]]) -> Any:
            return local_models["nobody"]

    with pytest.raises(UserCodeError, match=r"Raises\.aggregate failed: KeyError: 'nobody'"):
        run(adapt(Raises, {}))
