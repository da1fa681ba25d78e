"""What a client's update counts that did a part of its work only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.admm import ICEADMMAggregator, IIADMMAggregator
from appfl_gc.aggregator.base import Aggregator, Cohort
from appfl_gc.aggregator.client_weights import MODES, MOST_EXAMPLES, shares, shares_of_all
from appfl_gc.aggregator.fedasync import FedAsyncAggregator, FedBuffAggregator, FedCompassAggregator
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.fedqueue import FedQueueAggregator
from appfl_gc.aggregator.user_class import adapt
from appfl_gc.protocol.schedule import UpdateMeta
from tests.aggregator.folds import every, fold, metas


def partial(sizes: Sequence[int], parts: Sequence[float], **more: Any) -> list[UpdateMeta]:
    """Metas of clients with these sample sizes that did these parts of their work."""
    return [replace(meta, share=part) for meta, part in zip(metas(sizes, **more), parts, strict=True)]


def test_a_mean_by_examples_and_by_what_was_done() -> None:
    known = partial([10, 30], [1.0, 0.5])
    assert fold(FedAvgAggregator("sample_size"), [9.0], [[1.0], [3.0]], known) == pytest.approx(
        [(10 * 1 + 15 * 3) / 25]
    )
    assert fold(FedAvgAggregator("equal"), [9.0], [[1.0], [3.0]], known) == pytest.approx(
        [(1 + 0.5 * 3) / 1.5]
    )
    gone = fold(FedAvgAggregator("sample_size"), [9.0], [[1.0], [3.0]], known, delta=True)
    assert gone == pytest.approx([9 - (10 * 1 + 15 * 3) / 25])


@pytest.mark.parametrize(
    "asynchronous",
    [FedAsyncAggregator(alpha=0.8), FedBuffAggregator(1, alpha=0.8), FedCompassAggregator(alpha=0.8)],
)
def test_an_update_by_itself_moves_the_model_by_what_was_done(asynchronous: Aggregator) -> None:
    assert fold(asynchronous, [1.0], [[3.0]], partial([1], [0.25]), cohort=Cohort(4, 0)) == pytest.approx(
        [1 + 0.8 / 4 * 0.25 * 2]
    )


def test_admm_counts_by_what_was_done_and_by_the_penalty() -> None:
    known = partial([1, 1], [1.0, 0.25], numbers=[{"penalty": 2.0}, {"penalty": 4.0}])
    assert fold(IIADMMAggregator(), [0.0], [[1.0], [6.0]], known) == pytest.approx([(1 + 0.25 * 6) / 1.25])
    assert fold(ICEADMMAggregator(), [0.0], [[1.0], [6.0]], known) == pytest.approx([(2 * 1 + 6) / 3])


def test_steps_already_say_what_was_done() -> None:
    known = partial([1, 1], [1.0, 0.25], steps=[100, 25])
    assert FedQueueAggregator().weights(known, [0, 0], Cohort(2, 2), None) == pytest.approx([0.8, 0.2])


parts = st.floats(1e-6, 1)
sizes = st.integers(1, 10**9)


@given(st.lists(st.tuples(sizes, parts), min_size=2, max_size=12), st.sampled_from(MODES))
def test_relative_to_the_others_an_update_counts_by_its_share(
    given_: list[tuple[int, float]], mode: str
) -> None:
    lengths, done = [size for size, _ in given_], [part for _, part in given_]
    whole, less = shares(mode, metas(lengths)), shares(mode, partial(lengths, done))
    assert math.fsum(less) == pytest.approx(1)
    for index in range(1, len(done)):
        expected = whole[index] * done[index] * (whole[0] * done[0]) ** -1
        assert less[index] / less[0] == pytest.approx(expected)
    cohort = Cohort(20, 20 * 10**9)
    of_all = zip(shares_of_all(mode, metas(lengths), cohort), done, strict=True)
    assert shares_of_all(mode, partial(lengths, done), cohort) == [share * part for share, part in of_all]


@given(st.lists(st.integers(-3, MOST_EXAMPLES // 8), min_size=1, max_size=8), st.sampled_from(MODES))
def test_who_did_everything_counts_to_the_bit_as_if_there_were_no_shares(
    lengths: list[int], mode: str
) -> None:
    usable = mode == "sample_size" and any(lengths) and min(lengths) >= 0
    total = sum(lengths)
    expected = [size / total if usable else 1.0 / len(lengths) for size in lengths]
    assert shares(mode, metas(lengths)) == expected


@given(st.lists(parts, min_size=1, max_size=8))
def test_every_aggregator_gives_every_update_a_finite_weight(done: list[float]) -> None:
    known = partial([5] * len(done), done, numbers=[{"penalty": 1.0}] * len(done))
    for name, aggregator in every().items():
        weights = aggregator.weights(known, [0] * len(done), Cohort(10, 50), None)
        assert all(math.isfinite(weight) and weight >= 0 for weight in weights), name
        assert math.fsum(weights) > 0, name


def test_a_users_class_hears_of_it() -> None:
    heard: dict[str, Any] = {}

    class Mean:
        def aggregate(self, local_models: dict[str, Any], shares: dict[str, float]) -> Any:
            heard.update(shares)
            return next(iter(local_models.values()))

    aggregator = adapt(Mean, {})
    assert fold(aggregator, [0.0], [[1.0], [2.0]], partial([1, 1], [1.0, 0.5])) == [1.0]  # type: ignore[arg-type]
    assert heard == {"c0": 1.0, "c1": 0.5}
