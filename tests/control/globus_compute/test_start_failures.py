"""What follows from failed starts at endpoints that a facility, we or others own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from appfl_gc.control.globus_compute.failing import failures
from appfl_gc.control.globus_compute.failing.start_failures import StartFailures
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.hpc.facility import all_facilities
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import DeliveryError, EndpointError, StartFailedError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply

PRIVATE = "11111111-2222-4333-8444-555555555555"
SHARED = next(shared for facility in all_facilities() for shared in facility.shared)
DEADLINE = 30


@dataclass
class Service:
    """The part of ``ComputeService`` that stops endpoints."""

    mine: bool = True
    refusal: Exception | None = None
    stopped: list[str] = field(default_factory=list)

    def owns(self, endpoint: str) -> bool:
        if self.refusal is not None:
            raise self.refusal
        return self.mine

    def stop_endpoint(self, endpoint: str) -> None:
        self.stopped.append(endpoint)


class Case:
    """A lane whose starts fail."""

    def __init__(self, endpoint: str, service: Service) -> None:
        self.calls = OpenCalls(lambda progress: None)
        self.starts = StartFailures(self.calls)
        self.identity = Application("id", "secret", "the test")
        submitter: Any = type("Submitter", (), {"service": service})()
        self.lane = Lane(Target(endpoint, self.identity), submitter)
        self.other = Lane(Target(endpoint, self.identity, {"queue": "other"}), submitter)
        self.requests = 0

    def fail(self, clients: str = "A", lane: Lane | None = None) -> list[Future[Reply]]:
        """Calls of ``clients``, sent together, whose start fails."""
        self.requests += 1
        opened = [self.open(client, lane or self.lane) for client in clients]
        for call in opened:
            error = failures.of_task("Failed to start: template", call.place)
            assert isinstance(error, StartFailedError)
            self.starts.failed(call, error)
        return [call.future for call in opened]

    def open(self, client: str, lane: Lane) -> OpenCall:
        place = failures.Place(client, lane.target.endpoint_id, self.identity, "task")
        call = OpenCall(Call(CallId("run", 1, client), "site.hello"), lane, place, "group", 1)
        call.request, call.taken = self.requests, 0.0
        self.calls.add(call)
        return call


def raised(future: Future[Reply], kind: type[DeliveryError]) -> DeliveryError:
    with pytest.raises(kind) as caught:
        future.result(DEADLINE)
    return caught.value


def test_one_failure_of_many_calls_is_one_failure_and_pauses_the_lane() -> None:
    service = Service()
    case = Case(PRIVATE, service)
    for future in case.fail("ABCD"):
        raised(future, StartFailedError)
    assert case.starts.refusal(case.lane) is None and not service.stopped
    assert case.lane.not_before > 0


def test_the_second_in_a_row_stops_our_endpoint_and_all_that_waits_for_it() -> None:
    service = Service()
    case = Case(PRIVATE, service)
    case.fail()
    waiting = case.open("W", case.lane)
    waiting.taken = None
    error = raised(case.fail()[0], EndpointError)
    assert "It was stopped" in error.message and service.stopped == [PRIVATE]
    assert "client W" in raised(waiting.future, EndpointError).message
    assert case.starts.refusal(case.lane) is not None and case.starts.refusal(case.other) is None


def test_an_endpoint_that_serves_others_or_is_anothers_is_left_alone() -> None:
    for prepare, service, words in (
        (lambda case: case.starts.answered(case.other), Service(), "Other calls run there"),
        (lambda case: None, Service(mine=False), "another identity's"),
        (lambda case: None, Service(refusal=DeliveryError("No route.")), "could not be stopped: No route."),
        (lambda case: None, Service(refusal=KeyError("uuid")), "could not be stopped: KeyError"),
    ):
        assert words in _twice(Case(PRIVATE, service), prepare).message
        assert not service.stopped


def _twice(case: Case, prepare: Callable[[Case], None]) -> DeliveryError:
    prepare(case)
    case.fail()
    return raised(case.fail()[0], EndpointError)


def test_at_a_facility_it_says_how_jobs_are_stopped_and_where_their_logs_are() -> None:
    service = Service()
    error = _twice(Case(SHARED.endpoint_id, service), lambda case: None)
    assert SHARED.stop in error.hint and SHARED.job_logs in error.hint and not service.stopped


def test_an_answer_between_them_starts_the_count_anew() -> None:
    service = Service()
    case = Case(PRIVATE, service)
    case.fail()
    case.starts.answered(case.lane)
    raised(case.fail()[0], StartFailedError)
    assert not service.stopped
