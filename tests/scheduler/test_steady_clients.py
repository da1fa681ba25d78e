"""What the predicting schedulers promise where all goes as predicted: clients whose times never vary."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from appfl_gc.protocol.schedule import Action, Dispatch, Event, Finish, Started, Timer, WakeAt
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.compass import CompassScheduler, CompassSettings
from appfl_gc.scheduler.queue import QueueScheduler, QueueSettings
from tests.scheduler.playing import Server, arrived


@dataclass(frozen=True)
class Steady:
    """A client: seconds for a step and in the queue."""

    step: float
    queue: float


class Run:
    """A whole run on a clock without noise; when each client was sent work, with how much, and when it was done."""

    def __init__(self, scheduler: Scheduler, clients: Mapping[str, Steady]) -> None:
        self.clients = clients
        self.sent: list[tuple[float, Dispatch]] = []
        self.done: dict[tuple[str, int], float] = {}
        self.version_at: list[float] = [0.0]
        self._server = Server(scheduler)
        self._heap: list[tuple[float, int, Event]] = [(0.0, 0, Started(tuple(clients)))]
        self._count = 0
        while self._heap:
            now, _, event = heapq.heappop(self._heap)
            version = self._server.version
            actions = self._server.hear(now, event)
            self.version_at += [now] * (self._server.version - version)
            if any(isinstance(action, Finish) for action in actions):
                return
            for action in actions:
                self._act(now, action)

    def _act(self, now: float, action: Action) -> None:
        if isinstance(action, WakeAt):
            self._later(action.at, Timer())
        elif isinstance(action, Dispatch):
            client, steps = self.clients[action.client], action.args["local_steps"]
            assert isinstance(steps, int)
            train = steps * client.step
            update = arrived(action.client, action.dispatch, steps=steps, train=train, queue=client.queue)
            self.sent.append((now, action))
            self.done[action.client, action.dispatch] = now + client.queue + train
            self._later(now + client.queue + train, update)

    def _later(self, at: float, event: Event) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, event))


CLIENTS = st.lists(st.builds(Steady, st.floats(0.1, 3.0), st.floats(0.0, 20.0)), min_size=1, max_size=6).map(
    lambda clients: {f"c{place}": client for place, client in enumerate(clients)}
)


@settings(max_examples=60, deadline=None)
@given(CLIENTS, st.floats(1.1, 2.0))
# After some dispatches of few steps one of many is no sign of trouble.
@example(
    {"c0": Steady(2.0, 0.0), "c1": Steady(2.25, 0.0), "c2": Steady(2.875, 0.0), "c3": Steady(0.1, 1.0)}, 2.0
)
def test_with_fedcompass_nobody_waits_longer_than_a_step_of_its_own(
    clients: dict[str, Steady], factor: float
) -> None:
    run = Run(CompassScheduler(60, CompassSettings(100, 5, 0.9, factor)), clients)
    for now, dispatch in run.sent:
        if dispatch.dispatch > 1:
            waited = now - run.done[dispatch.client, dispatch.dispatch - 1]
            # Nothing tells how long a first dispatch should take: one beside much faster clients may be overdue, and
            # its place at the end of the run another's.
            if all(run.done[client, 1] <= now for client in clients):
                assert waited <= clients[dispatch.client].step * 1.001 + 1e-6


@settings(max_examples=60, deadline=None)
@given(CLIENTS)
def test_with_fedqueue_a_round_takes_as_long_as_it_should_and_nobody_moves_the_model_further(
    clients: dict[str, Steady],
) -> None:
    settings_of: dict[str, Any] = {"t_sync": 100.0, "safety_buffer": 10.0, "warm_up_steps": 2, "lr_base": 0.1}
    run = Run(QueueScheduler(20, QueueSettings(**settings_of)), clients)
    for begin, end in zip(run.version_at[12:], run.version_at[13:], strict=False):
        # Queue estimates are within a hundredth of a second by now; one step may not have fitted.
        assert 100.0 - 10.0 - 3.0 - 0.1 <= end - begin <= 100.0 - 10.0 + 0.1
    moves: dict[int, set[float]] = {}
    for _, dispatch in run.sent:
        steps, rate = dispatch.args["local_steps"], dispatch.args["learning_rate"]
        assert isinstance(steps, int)
        assert isinstance(rate, float)
        moves.setdefault(dispatch.version, set()).add(round(steps * rate, 9))
    assert all(len(moved) == 1 for moved in moves.values())
