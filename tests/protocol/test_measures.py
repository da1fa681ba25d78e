"""Turn-around splits into queue, compute and transfer without comparing two clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.measures import Measures, Timing

seconds = st.floats(0, 1e6)


@given(seconds, seconds, seconds, seconds, seconds, seconds)
def test_the_three_numbers_make_up_the_turn_around(
    extra: float, load: float, train: float, encode: float, transfer: float, validate: float
) -> None:
    site = Measures(load, train, encode, transfer, 1, validate)
    timing = Timing.split(site.site + extra, site)
    assert timing.queue + timing.compute + timing.transfer == pytest.approx(site.site + extra)
    assert timing.queue == pytest.approx(extra, abs=1e-6)
    assert timing.transfer == transfer
    # What steps take tells how fast a client is; validation and all else come on top of it.
    assert timing.train == train
    assert timing.overhead == pytest.approx(extra + load + encode + transfer + validate, abs=1e-6)


def test_a_site_that_claims_more_than_the_turn_around_has_no_negative_queue() -> None:
    assert Timing.split(1.0, Measures(train=5.0)).queue == 0.0
