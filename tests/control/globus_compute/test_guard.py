"""The guard: two failed starts in a row, however many calls each took down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.control.globus_compute.failing.guard import StartGuard


def test_the_second_failure_in_a_row_trips_once() -> None:
    guard = StartGuard()
    assert [guard.failed("A", request) for request in (1, 1, 1)] == [False, False, False]
    assert not guard.tripped("A")
    assert [guard.failed("A", request) for request in (2, 2, 3)] == [True, False, False]
    assert guard.tripped("A") and not guard.tripped("B")


def test_an_answer_between_them_starts_the_count_anew_but_never_untrips() -> None:
    guard = StartGuard()
    guard.failed("A", 1)
    guard.answered("A")
    assert not guard.failed("A", 2)
    assert guard.failed("A", 3)
    guard.answered("A")
    assert guard.tripped("A")


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, 3), st.booleans()), max_size=30))
def test_it_trips_once_for_each_place_and_never_without_two_requests(
    events: list[tuple[str, int, bool]],
) -> None:
    guard, trips = StartGuard(), {"A": 0, "B": 0}
    failed: dict[str, set[int]] = {"A": set(), "B": set()}
    for place, request, good in events:
        if good:
            guard.answered(place)
        else:
            failed[place].add(request)
            trips[place] += guard.failed(place, request)
    for place, count in trips.items():
        assert count == guard.tripped(place)
        assert not count or len(failed[place]) > 1
