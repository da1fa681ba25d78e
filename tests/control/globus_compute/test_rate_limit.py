"""The rate limit: never more than the service takes, and no waiting without need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.control.globus_compute.rest.rate_limit import FIRST_BACKOFF, LONGEST_BACKOFF, RateLimit


@given(
    st.integers(1, 20),
    st.floats(0.5, 20),
    st.lists(st.floats(0, 5), min_size=1, max_size=80),
)
def test_no_window_holds_more_than_its_requests(requests: int, seconds: float, gaps: list[float]) -> None:
    limit = RateLimit(requests, seconds)
    now, sent = 1000.0, []
    for gap in gaps:
        now += gap
        now += limit.wait(now)
        assert limit.wait(now) < 1e-6
        limit.sent(now)
        sent.append(now)
    for first, last in zip(sent, sent[requests:], strict=False):
        assert last - first >= seconds * (1 - 1e-9)


@given(st.integers(1, 20))
def test_the_first_requests_go_at_once(requests: int) -> None:
    limit = RateLimit(requests, 10.0)
    for _ in range(requests):
        assert limit.wait(5.0) == 0
        limit.sent(5.0)
    assert limit.wait(5.0) == 10.0


@given(st.integers(2, 20), st.integers(1, 10))
def test_what_is_less_pressing_leaves_room(requests: int, spare: int) -> None:
    limit = RateLimit(requests, 10.0)
    free = max(1, requests - spare)
    for number in range(requests):
        assert (limit.wait(5.0, spare) == 0) == (number < free)
        assert limit.wait(5.0) == 0
        limit.sent(5.0)


@given(st.lists(st.one_of(st.none(), st.floats(0, 200)), min_size=1, max_size=20))
def test_refusals_pause_at_least_as_long_as_asked_and_ever_longer(asked: list[float | None]) -> None:
    limit = RateLimit(18, 10.0)
    floor = FIRST_BACKOFF
    for wish in asked:
        pause = limit.refused(0.0, wish)
        assert pause == min(max(wish or 0.0, floor), LONGEST_BACKOFF)
        assert limit.wait(0.0) >= pause
        floor = min(2 * floor, LONGEST_BACKOFF)
    limit.accepted()
    assert limit.refused(0.0) == FIRST_BACKOFF
