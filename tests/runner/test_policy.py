"""The failure policy: which failures are tried again, which cost the client, which end the run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.policy.old import FailurePolicy, Verdict

CLIENTS = ("A", "B", "C", "D")


@given(st.sampled_from(ErrorClass), st.integers(0, 3), st.integers(1, 6))
def test_only_infrastructure_is_tried_again_and_only_so_often(
    kind: ErrorClass, retries: int, attempt: int
) -> None:
    verdict = FailurePolicy(CLIENTS, retries, 1).failed("A", kind, attempt, before_training=False)
    assert (verdict is Verdict.RETRY) == (kind.infrastructure and attempt <= retries)


@given(st.integers(1, 4) | st.floats(0.01, 1.0), st.permutations(CLIENTS))
def test_the_run_goes_on_exactly_while_the_quorum_holds(quorum: int | float, order: list[str]) -> None:
    policy = FailurePolicy(CLIENTS, 0, quorum)
    for lost, client in enumerate(order, start=1):
        verdict = policy.failed(client, ErrorClass.USER, 1, before_training=False)
        assert (verdict is Verdict.SET_ASIDE) == (len(CLIENTS) - lost >= policy.needed)
        assert client not in policy.active


@pytest.mark.parametrize(("quorum", "needed"), [(0.5, 2), (0.51, 3), (1.0, 4), (1, 1), (4, 4), (9, 4)])
def test_quorum_is_a_number_or_a_fraction(quorum: int | float, needed: int) -> None:
    assert FailurePolicy(CLIENTS, 0, quorum).needed == needed


def test_a_fraction_counts_as_it_is_written() -> None:
    clients = [str(number) for number in range(100)]
    assert [FailurePolicy(clients, 0, share).needed for share in (0.07, 0.14, 0.28, 0.29)] == [7, 14, 28, 29]


def test_before_training_a_lasting_error_ends_the_run() -> None:
    policy = FailurePolicy(CLIENTS, 2, 1)
    assert policy.failed("A", ErrorClass.USER, 1, before_training=True) is Verdict.END_RUN
    assert policy.failed("B", ErrorClass.WORKER_LOST, 1, before_training=True) is Verdict.RETRY
    assert policy.failed("B", ErrorClass.WORKER_LOST, 3, before_training=True) is Verdict.SET_ASIDE
