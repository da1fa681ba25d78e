"""Calls in flight: what is remembered of them on their way."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import replace

import pytest

from appfl_gc.control.plane import CallState, Capabilities, Progress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.inbox import Answered, Inbox, Progressed


class SilentPlane:
    """Never answers by itself; a real one can't be held at each state of a call."""

    capabilities = Capabilities("silent", 0, shared_file_system=True, reattach=False, cancel=False)

    def task_group(self, call: Call) -> str:
        return f"group-{call.identity.round}"

    def submit(self, call: Call) -> Future[Reply]:
        return Future()

    def attach(self, call: Call, group: str, task: str) -> Future[Reply]:
        return Future()

    def close(self) -> None:
        return None


CALL = Call(CallId("run", 1, "Client1"), "trainer.train", nonce="first")


@pytest.fixture
def dispatcher() -> Dispatcher:
    inbox: Inbox = queue.SimpleQueue()
    return Dispatcher(SilentPlane(), inbox)


def progressed(call: Call, state: CallState, at: float) -> Progressed:
    return Progressed(Progress(call, state), at)


def test_the_time_in_each_state_adds_up(dispatcher: Dispatcher) -> None:
    dispatcher.send(CALL, version=0)
    for state, at in [
        (CallState.SENDING, 10.0),
        (CallState.WAITING_FOR_NODES, 11.0),
        (CallState.RUNNING, 15.0),
        (CallState.WAITING_FOR_NODES, 16.0),
    ]:
        assert dispatcher.note(progressed(CALL, state, at))

    flight = dispatcher.take(Answered(CALL, None, None, 20.0))

    assert flight is not None
    assert flight.seconds_in(20.0) == {"sending": 1.0, "waiting for nodes": 8.0, "running": 1.0}


def test_progress_of_an_abandoned_attempt_is_no_news(dispatcher: Dispatcher) -> None:
    dispatcher.send(CALL, version=0)
    flight = dispatcher.take(Answered(CALL, None, None, 1.0))
    assert flight is not None
    again = replace(CALL, identity=CALL.identity.next_attempt(), nonce="another")
    dispatcher.send(again, version=0)

    assert not dispatcher.note(progressed(CALL, CallState.RUNNING, 2.0))
    assert dispatcher.note(progressed(again, CallState.RUNNING, 2.0))
    assert dispatcher.task_group(again) == "group-1"


def test_a_client_is_busy_with_its_model_and_its_update_too(dispatcher: Dispatcher) -> None:
    client = CALL.identity.client
    dispatcher.begin(client, version=3)
    assert (dispatcher.busy, dispatcher.in_use()) == ({client}, {3})
    dispatcher.send(CALL, version=3)
    dispatcher.take(Answered(CALL, None, None, 1.0))
    assert (dispatcher.busy, dispatcher.in_use()) == ({client}, {3})
    dispatcher.done(client)
    assert (dispatcher.busy, dispatcher.in_use()) == (frozenset(), frozenset())
