"""What the server knows of each client's updates; timers that are due and those that are not."""

from __future__ import annotations

from appfl_gc.aggregator.base import Cohort
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.ledger import Ledger
from appfl_gc.runner.timers import Timers


def test_an_older_update_that_comes_late_turns_nothing_back() -> None:
    ledger = Ledger(["a", "b"])
    assert (ledger.accepted("a"), ledger.folded("a")) == (0, 0)
    for dispatch in (2, 3, 1):
        ledger.accept(UpdateId("a", dispatch))
    ledger.fold(UpdateId("a", 2))
    ledger.fold(UpdateId("a", 1))
    assert (ledger.accepted("a"), ledger.folded("a")) == (3, 2)
    assert (ledger.accepted("b"), ledger.folded("b")) == (0, 0)


def test_who_has_not_said_how_much_data_it_has_counts_as_the_mean() -> None:
    ledger = Ledger(["a", "b", "c"])
    assert ledger.cohort == Cohort(3, 0)
    ledger.met("a", 10)
    ledger.met("b", 30)
    assert ledger.cohort == Cohort(3, 60)
    ledger.met("c", 50)
    assert ledger.cohort == Cohort(3, 90)


def test_timers_come_in_order_and_once() -> None:
    timers: Timers[str] = Timers()
    assert not timers
    for at in (3.0, 1.0, 2.0, 1.0):
        timers.set(at, f"at {at}")
    assert timers.next == 1.0
    assert timers.take_due(0.5) == []
    assert timers.take_due(2.0) == [(1.0, "at 1.0"), (1.0, "at 1.0"), (2.0, "at 2.0")]
    assert (timers.next, bool(timers)) == (3.0, True)
