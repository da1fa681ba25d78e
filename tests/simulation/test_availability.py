from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.simulation.availability import Availability


@st.composite
def availabilities(draw: st.DrawFn) -> Availability:
    # Of tenths of a second, which floats do not hold: what is much shorter is less than the rounding of later times.
    edges = sorted(tenths / 10 for tenths in draw(st.sets(st.integers(0, 399), max_size=6)))
    windows = tuple(zip(edges[::2], edges[1::2], strict=False))
    every = draw(st.sampled_from([0.0, 39.9, 50.7]))
    assume(every == 0 or sum(end - begin for begin, end in windows) < every)
    return Availability(windows, every)


def test_a_client_is_down_from_the_beginning_of_a_window_until_its_end() -> None:
    availability = Availability(((10.0, 20.0), (30.0, math.inf)))
    assert [availability.is_up(at) for at in (0, 9.9, 10, 19.9, 20, 29.9, 30, 1e9)] == [
        True, True, False, False, True, True, False, False,
    ]  # fmt: skip
    assert [availability.next_edge(at) for at in (0, 10, 25, 30)] == [10, 20, 30, math.inf]
    assert availability.down_seconds(40) == 20


def test_windows_repeat() -> None:
    nightly = Availability(((0.0, 6.0), (22.0, 24.0)), every=24.0)
    assert nightly.first_up() == 6
    assert not nightly.is_up(24 * 5 + 5.9) and nightly.is_up(24 * 5 + 6)
    assert nightly.next_edge(23) == 24
    assert nightly.down_seconds(24 * 3) == 24


@pytest.mark.parametrize("windows", [((3600.1, 7200.3),), ((0.1, 0.7), (80000.9, 86400.0)), ((0.0, 0.3),)])
def test_at_each_edge_the_client_goes_down_or_comes_up(windows: tuple[tuple[float, float], ...]) -> None:
    nightly = Availability(windows, every=86400.0)
    at, up = 0.0, nightly.is_up(0.0)
    for _ in range(400):
        at = nightly.next_edge(at)
        assert nightly.is_up(at) is not up
        assert nightly.is_up(math.nextafter(at, 0)) is up
        up = not up


@given(availabilities(), st.floats(0, 200))
def test_edges_are_where_the_state_changes(availability: Availability, end: float) -> None:
    at, down = 0.0, 0.0
    while at < end:
        edge = availability.next_edge(at)
        assert edge > at
        middle = at + (min(edge, end) - at) / 2
        assert availability.is_up(middle) == availability.is_up(at)
        down += 0 if availability.is_up(at) else min(edge, end) - at
        at = edge
    assert availability.down_seconds(end) == pytest.approx(down)


@pytest.mark.parametrize(
    ("windows", "every", "words"),
    [
        (((5.0, 5.0),), 0.0, "expected an end after the beginning"),
        (((5.0, 9.0), (8.0, 12.0)), 0.0, "do not overlap"),
        (((-1.0, 2.0),), 0.0, "from second -1.0"),
        (((5.0, 30.0),), 24.0, "windows repeat every 24.0"),
        (((0.0, 24.0),), 24.0, "never up"),
        (((math.nan, 1.0),), 0.0, "from second nan"),
        ((), -1.0, "must be 1 or more"),
        ((), 1e-300, "must be 1 or more"),
        ((), math.inf, "must be 1 or more"),
    ],
)
def test_windows_that_make_no_sense(
    windows: tuple[tuple[float, float], ...], every: float, words: str
) -> None:
    with pytest.raises(UserCodeError, match=words):
        Availability(windows, every)
