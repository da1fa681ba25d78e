"""Users' own aggregator classes: how they are built and fed, and what is said when they go wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from appfl_gc.aggregator.base import Block, Cohort
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.in_memory import InMemoryModel
from appfl_gc.aggregator.krum import KrumAggregator
from appfl_gc.aggregator.server_optimisers import FedAvgMAggregator
from appfl_gc.aggregator.user_blocks import UserBlockAggregator
from appfl_gc.aggregator.user_class import UserClassAggregator, adapt, by_client
from appfl_gc.payload.codec import spec_of
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.source import Source
from appfl_gc.protocol.update_spec import Meaning
from appfl_gc.site.source_loader import SourceLoader
from appfl_gc.site.user_errors import user_frames

STATE = {"w": torch.ones(2), "n": torch.tensor(1)}
COHORT = Cohort(2, 4)
METAS = [UpdateMeta(UpdateId(name, 1), 0, size, 5, Timing(0, 0, 0, 0)) for name, size in (("a", 1), ("b", 3))]


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
    with pytest.raises(UserCodeError, match=r"Plain can't be constructed.*factor"):
        adapt(Plain, {"speed": 3})


def test_a_native_class_gets_the_arguments_that_it_takes() -> None:
    class Native(FedAvgAggregator):
        pass

    injected = {"num_clients": 2, "gradient_based": False}
    aggregator = adapt(Native, {"client_weights_mode": "sample_size", **injected})
    assert isinstance(aggregator, UserBlockAggregator)
    assert aggregator.instance.client_weights_mode == "sample_size"
    assert aggregator.weights(METAS, [0, 2], COHORT, None) == [0.25, 0.75]
    rows = torch.tensor([[1.0], [3.0]])
    new, _ = aggregator.reduce(Block(torch.zeros(1), rows, Meaning.VALUE, True), [0.25, 0.75])
    assert new.tolist() == [2.5]


def test_a_class_derived_from_one_of_ours_keeps_its_state_and_its_look() -> None:
    class Damped(FedAvgMAggregator):
        def reduce(
            self, block: Block, weights: Sequence[float]
        ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
            new, state = super().reduce(block, weights)
            return (new + block.current) / 2, state

    aggregator = adapt(Damped, {"server_momentum_param_1": 0.5, "num_clients": 2})
    assert isinstance(aggregator, UserBlockAggregator)
    model = InMemoryModel({"w": torch.zeros(1)}, frozenset({"w"}), aggregator)
    for _ in range(2):
        model.fold([{"w": model.state["w"] + 4}], METAS[:1], [0], COHORT)
    # Steps of 4 and 0.5 * 4 + 4, each halved.
    assert model.state["w"].tolist() == [2 + 3]
    krum = adapt(type("Mine", (KrumAggregator,), {}), {"num_byzantine": 0})
    model = InMemoryModel({"w": torch.zeros(1)}, frozenset({"w"}), krum)
    new = model.fold([{"w": torch.tensor([x])} for x in (1.0, 9.0, 1.1)], METAS[:1] * 3, [0] * 3, COHORT)
    assert new["w"].item() == 1


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


def from_file(directory: Path, text: str) -> Any:
    """The class at the end of a user's file."""
    source = Source("aggregator", "", "mine.py", textwrap.dedent(text))
    return SourceLoader(directory).load(source).target


def test_a_mapping_that_raises_when_it_is_read(tmp_path: Path) -> None:
    text = """
        from collections import UserDict

        class Lazy(UserDict):
            def __getitem__(self, name):
                raise RuntimeError("gone")

        class Mine:
            def aggregate(self, local_models):
                return Lazy(local_models["a"])
    """
    with pytest.raises(UserCodeError, match=r"Mine\.aggregate returned .* mine\.py line 6: gone"):
        run(adapt(from_file(tmp_path, text), {}))


ERRORS = [
    ("1 / 0", "ZeroDivisionError in mine.py line 3"),
    ("sys.exit(0)", "sys.exit(0) was called in mine.py line 3"),
    ("raise BaseException('enough')", "BaseException in mine.py line 3: enough"),
]


@pytest.mark.parametrize(("statement", "told"), ERRORS)
@pytest.mark.parametrize("method", ["__init__", "set_client_sample_size", "aggregate", "get_parameters"])
def test_whatever_a_whole_model_class_raises_is_told_in_its_own_terms(
    tmp_path: Path, method: str, statement: str, told: str
) -> None:
    cls = from_file(
        tmp_path,
        f"""import sys
def fail(*args):
    {statement}
class Mine:
    def set_client_sample_size(self, client_id, sample_size):
        pass
    def aggregate(self, local_models):
        return None
    def get_parameters(self):
        return None
    {method} = fail
""",
    )
    with pytest.raises(UserCodeError) as caught:
        run(adapt(cls, {}))
    assert "Mine" in caught.value.message
    assert told in caught.value.message
    assert user_frames(caught.value) == ("mine.py:3 in fail",)


@pytest.mark.parametrize(("statement", "told"), ERRORS)
@pytest.mark.parametrize("method", ["__init__", "weights", "reduce"])
def test_whatever_a_class_by_blocks_raises_is_told_in_its_own_terms(
    tmp_path: Path, method: str, statement: str, told: str
) -> None:
    cls = from_file(
        tmp_path,
        f"""import sys
def fail(*args):
    {statement}
class Mine:
    def weights(self, metas, staleness):
        return [1] * len(metas)
    def reduce(self, global_block, updates, weights, meaning):
        return global_block
    {method} = fail
""",
    )
    with pytest.raises(UserCodeError) as caught:
        aggregator = adapt(cls, {})
        assert isinstance(aggregator, UserBlockAggregator)
        aggregator.weights(METAS, [0, 0], COHORT, None)
        aggregator.reduce(Block(torch.zeros(1), torch.zeros(2, 1), Meaning.VALUE, True), [1, 1])
    assert "Mine" in caught.value.message
    assert told in caught.value.message
    assert user_frames(caught.value) == ("mine.py:3 in fail",)


class Answers:
    """An aggregator by blocks that answers as the test chooses."""

    def __init__(self, weights: Any = (1, 1), block: Any = None) -> None:
        self.answers = weights, block

    def weights(self, metas: Any, staleness: Any) -> Any:
        return self.answers[0]

    def reduce(self, global_block: Any, updates: Any, weights: Any, meaning: Any) -> Any:
        return self.answers[1]


@pytest.mark.parametrize(
    "weights",
    [
        (1, 3.0),
        torch.tensor([1.0, 3.0]),
        [torch.tensor(1), torch.tensor([3.0])],
        np.array([1, 3]),
        [np.float32(1), np.int64(3)],
        [Fraction(1), Fraction(3)],
    ],
)
def test_numbers_of_any_kind_are_weights(weights: Any) -> None:
    numbers = UserBlockAggregator(Answers(weights)).weights(METAS, [0, 0], COHORT, None)
    assert numbers == [1.0, 3.0]
    assert all(type(number) is float for number in numbers)


@pytest.mark.parametrize(
    "weights",
    [
        None,
        1.0,
        [1.0],
        [1.0, 2.0, 3.0],
        [1.0, float("nan")],
        [1.0, float("inf")],
        [1, 10**400],
        [1.0, "2"],
        "12",
        [1.0, None],
        [1.0, 2j],
        {"a": 1.0, "b": 2.0},
        torch.tensor([[1.0], [2.0]]),
        torch.tensor(1.0),
        [torch.ones(2), torch.ones(2)],
    ],
)
def test_weights_that_are_not_a_number_for_each_update(weights: Any) -> None:
    with pytest.raises(
        UserCodeError, match=r"Answers\.weights returned .*expected 2 finite numbers"
    ) as caught:
        UserBlockAggregator(Answers(weights)).weights(METAS, [0, 0], COHORT, None)
    assert "order of metas" in caught.value.hint


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (None, "NoneType, not a tensor"),
        ([0.0, 0.0], "list, not a tensor"),
        (torch.zeros(3), r"torch.float32 of shape \[3\]"),
        (torch.zeros(1, 2), r"torch.float32 of shape \[1, 2\]"),
        (torch.zeros(2).double(), r"torch.float64 of shape \[2\]"),
        (torch.zeros(2).to_sparse(), "torch.sparse_coo torch.float32"),
        (torch.zeros(2, device="meta"), r"torch.float32 of shape \[2\] on the device meta"),
    ],
)
def test_blocks_that_are_not_the_models(block: Any, found: str) -> None:
    message = rf"Answers\.reduce returned {found}.*; expected torch.float32 of shape \[2\]\."
    with pytest.raises(UserCodeError, match=message):
        UserBlockAggregator(Answers(block=block)).reduce(
            Block(torch.zeros(2), torch.zeros(2, 2), Meaning.VALUE, True), [1, 1]
        )


def test_of_a_client_with_two_updates_in_one_fold_neither_is_lost() -> None:
    metas = [
        UpdateMeta(UpdateId(name, dispatch), 0, 1, 5, Timing(0, 0, 0, 0))
        for name, dispatch in (("a", 1), ("a", 2), ("b", 1))
    ]
    states = [{"w": torch.tensor([value]), "n": torch.tensor([int(value)])} for value in (1.0, 3.0, 5.0)]
    models = by_client(states, metas)
    assert {client: (float(state["w"]), int(state["n"])) for client, state in models.items()} == {
        "a": (2.0, 3),
        "b": (5.0, 5),
    }
    assert float(states[0]["w"]) == 1.0
