from __future__ import annotations

import math
from pathlib import Path

import pytest

from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import (
    Action,
    Arrived,
    ClientDown,
    ClientUp,
    Event,
    Refused,
    Started,
    UpdateId,
    UpdateMeta,
)
from appfl_gc.protocol.schedule_json import step_to_json
from appfl_gc.runner.journal import STEP, Journal
from appfl_gc.scheduler.base import Counts, Scheduler
from appfl_gc.simulation.draws import MOST, Chance, Constant, Lognormal, Samples
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.past_run import read_past_run
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.timeline import Timeline
from tests.simulation.federations import Counting, scheduler


class Journaled:
    """A scheduler whose steps go into a journal as a run writes them, so many seconds later."""

    def __init__(self, inner: Scheduler, journal: Journal, later: float = 0.0) -> None:
        self._inner = inner
        self._journal = journal
        self._later = later

    @property
    def counts(self) -> Counts:
        return self._inner.counts

    @property
    def waits_for_all(self) -> bool:
        return self._inner.waits_for_all

    def step(self, now: float, event: Event) -> list[Action]:
        actions = self._inner.step(now, event)
        write(self._journal, now + self._later, event, actions)
        return actions


def write(journal: Journal, now: float, event: Event, actions: list[Action] | None = None) -> None:
    listed = [step_to_json(action) for action in actions or []]
    journal.append(now, STEP, now=now, event=step_to_json(event), actions=listed)


def arrived(client: str, dispatch: int, train: float, queue: float = 1.0, steps: int = 10) -> Arrived:
    timing = Timing(queue=queue, compute=train + 2.0, transfer=0.5, train=train)
    return Arrived(UpdateMeta(UpdateId(client, dispatch), 0, 30, steps, timing))


@pytest.mark.parametrize("kind", ["sync", "async", "compass"])
def test_a_past_run_is_simulated_as_it_was(kind: str, tmp_path: Path) -> None:
    clients = [
        ClientProfile(name, Lognormal(speed, 0.3), Lognormal(4.0, 0.8), Constant(1.0), Lognormal(0.5, 0.2))
        for name, speed in (("a", 0.1), ("b", 0.2), ("c", 0.4))
    ]
    before, after = Timeline(), Timeline()
    with Journal(tmp_path / "journal.jsonl") as journal:
        recorded = Journaled(scheduler(kind, 12), journal, later=100.0)
        first = simulate(recorded, clients, Counting(), seed=5, record=before.add)
    past = read_past_run(tmp_path)
    assert past.seconds == pytest.approx(first.seconds)
    assert (past.silent, past.finished) == ((), True)
    assert (past.updates, past.local_steps) == (first.updates, first.steps)
    second = simulate(scheduler(kind, 12), past.profiles, Counting(), seed=99, record=after.add)
    assert second.seconds == pytest.approx(first.seconds)
    for old, new in zip(before.work, after.work, strict=True):
        assert (old.client, old.dispatch, old.steps, old.fate) == (
            new.client,
            new.dispatch,
            new.steps,
            new.fate,
        )
        assert (old.begin, old.end, old.queue) == pytest.approx((new.begin, new.end, new.queue))


def test_what_a_journal_says_of_clients(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        write(journal, 50.0, Started(("a", "b", "silent"), ("b",)))
        write(journal, 60.0, arrived("a", 1, train=4.0, queue=3.0))
        write(journal, 65.0, ClientUp("b"))
        write(journal, 70.0, arrived("a", 2, train=8.0, queue=5.0, steps=40))
        write(journal, 75.0, Refused(UpdateId("a", 3), "lost"))
        write(journal, 80.0, arrived("b", 1, train=1.0, queue=1e300))
        write(journal, 85.0, ClientDown("b"))
        write(journal, 86.0, Refused(UpdateId("b", 2), "it went down"))
    past = read_past_run(tmp_path)
    a, b = past.profiles
    assert (past.silent, past.seconds, past.steps) == (("silent",), 36.0, {"a": 40, "b": 10})
    assert (past.clients, past.updates, past.local_steps) == (("a", "b", "silent"), 3, 60)
    assert not past.finished
    assert a.step_seconds == Samples((0.4, 0.2))
    assert a.queue_seconds == Samples((3.0, 5.0))
    assert a.overhead_seconds.draw(Chance(0, "a", 1, "")) == 2.0
    assert a.transfer_seconds.draw(Chance(0, "a", 1, "")) == 0.5
    assert (a.loss, a.sample_size, a.availability.down) == (pytest.approx(1 / 3), 30, ())
    assert b.queue_seconds == Samples((MOST,))
    assert (b.loss, b.availability.down) == (0, ((0.0, 15.0), (35.0, math.inf)))


def test_what_is_no_past_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        read_past_run(tmp_path)
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(0.0, "run", run="old")
    with pytest.raises(UsageError, match="earlier version or never began"):
        read_past_run(tmp_path)
    with Journal(tmp_path / "journal.jsonl") as journal:
        write(journal, 1.0, Started(("a",)))
    with pytest.raises(UsageError, match="has delivered an update"):
        read_past_run(tmp_path)
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(2.0, STEP, now=2.0, event={"kind": "Nonsense"}, actions=[])
    with pytest.raises(UsageError, match="is no step of a scheduler"):
        read_past_run(tmp_path)
