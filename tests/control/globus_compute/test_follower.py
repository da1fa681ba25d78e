"""Following calls while one route of the service, or all of it, fails: nothing waits for ever."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appfl_gc.control.globus_compute.failing.failures import Place
from appfl_gc.control.globus_compute.following import follower as module
from appfl_gc.control.globus_compute.following.follower import Follower
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.rest import rate_limit
from appfl_gc.control.globus_compute.rest.errors import ThrottledError
from appfl_gc.control.globus_compute.rest.patience import Patience
from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
from appfl_gc.control.globus_compute.rest.service import ResultQueue
from appfl_gc.control.globus_compute.rest.turnstile import Turnstile
from appfl_gc.control.globus_compute.sending import submitter as submitting
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.submitter import ResultMode, Submitter
from appfl_gc.control.plane import Progress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, LoginError
from appfl_gc.protocol.identity import CallId

ENDPOINT = "aaaaaaaa-5a4d-4b0c-8000-000000000001"
TASK = "task-1"
SOON, DEADLINE = 0.4, 20.0
DOWN = DeliveryError("HTTP 503.")
RUNNING = {TASK: {"status": "running"}}
DONE = {TASK: {"status": "success", "result": "the answer"}}


class Service:
    """The routes that are asked while calls are followed; each answers, or raises, what the test says."""

    def __init__(self) -> None:
        self.tasks: Callable[[], Any] = lambda: RUNNING
        self.status: Callable[[], Any] = lambda: {"status": "online"}
        self.queue: Callable[[], Any] = lambda: ResultQueue("q", "amqp://user:password@127.0.0.1:1/")
        self.asked: dict[str, int] = {}

    def _answer(self, route: str) -> Any:
        self.asked[route] = self.asked.get(route, 0) + 1
        answer = getattr(self, route)()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def task_batch(self, tasks: list[str]) -> Any:
        return self._answer("tasks")

    def endpoint_status(self, endpoint: str) -> Any:
        return self._answer("status")

    def result_queue(self) -> Any:
        return self._answer("queue")

    def close(self) -> None:
        """Nothing is open."""


class Case:
    """One call that the service has taken, followed."""

    def __init__(self) -> None:
        self.service = Service()
        self.progress: list[Progress] = []
        self.calls = OpenCalls(self.progress.append)
        self.closing = threading.Event()
        self.texts: list[str] = []

    def follow(self, lost_after: float, results: ResultMode = "poll") -> OpenCall:
        identity = Application(str(uuid.uuid4()), "secret", "the test")
        turnstile = Turnstile(RateLimit(1000, 1.0), self.closing)
        service: Any = self.service
        patience = Patience(identity, turnstile, lost_after)
        logger = logging.getLogger("test")
        submitter = Submitter(identity, service, patience, turnstile, "function", results, None, logger)
        lane = Lane(Target(ENDPOINT, identity), submitter)
        call = OpenCall(
            Call(CallId("run", 1, "A"), "site.hello"), lane, Place("A", ENDPOINT, identity), "group", 1
        )
        call.took(TASK)
        call.taken = time.monotonic()
        self.calls.add(call)

        def answered(one: OpenCall, text: str) -> None:
            self.texts.append(text)
            self.calls.fail([one], lambda _: DeliveryError("It was answered."))

        Follower(
            submitter, self.calls, lost_after, 0.05, 0.05, answered, answered, lambda: None, self.closing
        )
        return call


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    """A case whose pauses are short."""
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(module, "FIRST_POLLED", 0.02)
    monkeypatch.setattr(module, "SHORTEST_STATUS", 0.05)
    monkeypatch.setattr(rate_limit, "FIRST_BACKOFF", 0.1)
    case = Case()
    yield case
    case.closing.set()


def failure(call: OpenCall, seconds: float = DEADLINE) -> BaseException:
    error = call.future.exception(seconds)
    assert error is not None
    return error


@pytest.mark.parametrize("error", [DOWN, ValueError("what"), LoginError("No.")])
def test_a_queue_that_is_not_told_stops_no_polling(
    error: Exception, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "PROBE_AGAIN", 0.05)
    case.service.queue = lambda: error
    case.service.tasks = lambda: DONE if case.service.asked["queue"] > 3 else RUNNING
    call = case.follow(60.0, "auto")
    failure(call)
    assert case.texts == ["the answer"]


def test_a_queue_without_a_usable_address_means_polling(case: Case) -> None:
    case.service.queue = lambda: ResultQueue("q", "amqp://user:password@127.0.0.1:99999/")
    case.service.tasks = lambda: DONE
    failure(case.follow(60.0, "auto"))
    assert case.texts == ["the answer"]
    assert "password" not in "".join(progress.detail for progress in case.progress)


def test_what_nobody_expects_of_preparing_fails_the_call(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Submitter, "prepare", broken)
    error = failure(case.follow(60.0))
    assert isinstance(error, DeliveryError)
    assert "broken" in error.message and ENDPOINT in error.message


def test_a_task_that_the_service_forgot_is_given_up(case: Case) -> None:
    case.service.tasks = lambda: {}
    begun = time.monotonic()
    error = failure(case.follow(SOON))
    assert isinstance(error, DeliveryError) and time.monotonic() - begun > SOON
    assert "has not known the task" in error.message and TASK in error.message


def test_a_task_that_is_known_again_is_not_given_up(case: Case) -> None:
    begun = time.monotonic()
    case.service.tasks = lambda: (
        DONE if time.monotonic() - begun > 3 * SOON else [RUNNING, {}][case.service.asked["tasks"] % 2]
    )
    failure(case.follow(SOON))
    assert case.texts == ["the answer"]


@pytest.mark.parametrize("error", [DOWN, RuntimeError("not understood")])
def test_tasks_that_are_not_told_of_end_the_call_although_endpoints_are(error: Exception, case: Case) -> None:
    case.service.tasks = lambda: error if case.service.asked.get("status", 0) > 2 else RUNNING
    assert "could not be reached" in str(failure(case.follow(SOON)))


def test_endpoints_that_are_not_told_of_end_no_call(case: Case) -> None:
    case.service.status = lambda: DOWN
    case.service.tasks = lambda: DONE if any(one.detail for one in case.progress) else RUNNING
    failure(case.follow(SOON))
    assert case.texts == ["the answer"]
    assert [one.detail for one in case.progress if one.detail] == [module.UNKNOWN_LIFE]


def test_a_service_that_asks_to_slow_down_is_there_and_is_given_time(case: Case) -> None:
    times: list[float] = []

    def slow_down() -> Any:
        times.append(time.monotonic())
        return ThrottledError("Slow down.", retry_after=0.3) if len(times) < 5 else DONE

    case.service.tasks = slow_down
    failure(case.follow(SOON))
    assert case.texts == ["the answer"]
    assert all(later - earlier > 0.29 for earlier, later in itertools.pairwise(times))


def test_a_login_that_nobody_can_renew_ends_the_call_at_once(case: Case) -> None:
    case.service.tasks = lambda: LoginError("The application is not accepted.", "Check its secret.")
    error = failure(case.follow(600.0))
    assert isinstance(error, LoginError) and isinstance(error, AppflGcError)
    assert TASK in error.message and error.hint == "Check its secret."
