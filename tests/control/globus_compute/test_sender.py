"""What nobody expects fails the calls that it met, and no others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.control.globus_compute.failing.failures import Place
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.sender import Sender
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, DeliveryError
from appfl_gc.protocol.identity import CallId
from tests.control.globus_compute.scripted_service import Answer, ScriptedService, scripted_service

ENDPOINT = str(uuid.uuid4())
IDENTITY = Application(str(uuid.uuid4()), "secret", "the test")
DEADLINE = 20


class BrokenLane(Lane):
    """A lane with a mistake in it."""

    def next_request(self, limit: int) -> list[OpenCall]:
        raise RuntimeError("broken")


@pytest.fixture
def calls() -> OpenCalls:
    return OpenCalls(lambda progress: None)


def opened(calls: OpenCalls, round_: int = 1) -> OpenCall:
    submitter: Any = type("Submitter", (), {"ready": True})()
    lane = BrokenLane(Target(ENDPOINT, IDENTITY), submitter)
    place = Place("A", ENDPOINT, IDENTITY)
    call = OpenCall(Call(CallId("run", round_, "A"), "site.hello"), lane, place, "group", 1)
    calls.add(call)
    return call


def test_a_mistake_in_a_lane_fails_its_calls_and_ends_no_sending(calls: OpenCalls) -> None:
    sender = Sender(calls, 10_000, None, lambda call, text: None, lambda call, text: None)
    try:
        for round_ in (1, 2):
            call = opened(calls, round_)
            sender.send(call)
            error = call.future.exception(DEADLINE)
            assert isinstance(error, DeliveryError)
            assert "broken" in error.message and f"endpoint {ENDPOINT}" in error.message
    finally:
        sender.close()


def test_a_call_fails_also_where_nobody_can_tell_why(calls: OpenCalls) -> None:
    def why(call: OpenCall) -> AppflGcError:
        raise RuntimeError("\x1b[2Jno words")

    first, second = opened(calls), opened(calls)
    calls.fail([first, second], why)
    for call in (first, second):
        error = call.future.exception(0)
        assert isinstance(error, DeliveryError)
        assert "no words" in error.message and ENDPOINT in error.message and "\x1b" not in error.message


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedService]:
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path))
    with scripted_service() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


def test_a_request_of_the_plane_is_repeated_within_the_rate_alone(cloud: ScriptedService) -> None:
    route = f"GET /v2/endpoints/{ENDPOINT}/status"
    cloud.answers[route] = Answer(503, {"code": "DOWN", "message": "down"})
    plane = GlobusComputePlane({"A": Target(ENDPOINT, IDENTITY)}, PlaneSettings(), lambda progress: None)
    try:
        with pytest.raises(DeliveryError, match="HTTP 503"):
            plane.services["A"].endpoint_status(ENDPOINT)
    finally:
        plane.close()
    # One repeat, which renews a token, passes no turnstile.
    assert [asked for asked, _, _ in cloud.requests].count(route) == 2
