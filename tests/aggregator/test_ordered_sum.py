"""The sum of a first pass: the same bits in whichever order its parts come."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.aggregator.ordered_sum import OrderedSum

PARTS = [np.array([value, -value]) for value in (1e16, 1.0, -1e16, 1e-3, 3.0, 1e8, -7.7)]


@given(st.permutations(range(len(PARTS))))
def test_parts_may_come_in_any_order(order: list[int]) -> None:
    total = OrderedSum()
    assert total.value is None
    for number in order:
        total.add(number, PARTS[number])
    expected = PARTS[0]
    for part in PARTS[1:]:
        expected = expected + part
    assert total.value is not None
    assert total.value.tobytes() == expected.tobytes()
