"""The SDK client of the plane, against a service that answers what the test says."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from appfl_gc.control.globus_compute.failing.failures import Place
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.rest.patience import Patience
from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
from appfl_gc.control.globus_compute.rest.turnstile import Turnstile
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall
from appfl_gc.control.globus_compute.sending.packing import call_bytes
from appfl_gc.control.globus_compute.sending.sdk_client import PlaneClient
from appfl_gc.control.globus_compute.sending.serializer import Envelope
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import DeliveryError
from appfl_gc.protocol.identity import CallId
from tests.control.globus_compute.scripted_service import Answer, ScriptedService, scripted_service

ENDPOINT, FUNCTION, OURS, THEIRS = (str(uuid.uuid4()) for _ in range(4))
IDENTITY = Application(str(uuid.uuid4()), "secret", "the test")


class Heard:
    """What a client tells of its requests."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.tasks: list[str] = []
        self.calls: list[OpenCall] = []
        self.errors: list[Exception] = []
        self.groups: list[tuple[str, str]] = []

    def waits(self, envelopes: Sequence[Envelope], state: CallState, detail: str) -> None:
        self.words.append(detail)

    def regrouped(self, envelopes: Sequence[Envelope], old: str, new: str) -> None:
        self.groups.append((old, new))

    def taken(self, envelopes: Sequence[Envelope], tasks: Sequence[str]) -> None:
        self.calls += [envelope.take() for envelope in envelopes]
        self.tasks += tasks

    def refused(self, envelopes: Sequence[Envelope], error: Exception) -> None:
        self.calls += [envelope.take() for envelope in envelopes]
        self.errors.append(error)


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedService]:
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path))
    with scripted_service() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


def submit(cloud: ScriptedService, answers: list[Answer], calls: int = 2, patience: float = 10.0) -> Heard:
    """What is heard when calls are submitted and the service answers so, one after the other."""
    usual = cloud.answer

    def answer(method: str, path: str, body: str) -> Answer:
        return answers.pop(0) if path.endswith("/submit") else usual(method, path, body)

    cloud.answer = answer  # type: ignore[method-assign]
    heard, turnstile = Heard(), Turnstile(RateLimit(1000, 1.0), threading.Event())
    client = PlaneClient(IDENTITY, Patience(IDENTITY, turnstile, patience), turnstile, heard)
    batch = client.create_batch(task_group_id=OURS, create_websocket_queue=True)
    lane = Lane(Target(ENDPOINT, IDENTITY), None)  # type: ignore[arg-type]
    for number in range(calls):
        call = Call(CallId("run", 1, f"C{number}"), "site.hello", {}, nonce="n")
        place = Place(f"C{number}", ENDPOINT, IDENTITY)
        batch.add(FUNCTION, (Envelope(OpenCall(call, lane, place, OURS, call_bytes(call))),), {})
    try:
        client.batch_run(ENDPOINT, batch)
    except Exception as error:  # noqa: BLE001  the SDK's thread would see it
        assert error is heard.errors[0]
    return heard


def took(group: str, *tasks: str) -> Answer:
    ids = {"request_id": str(uuid.uuid4()), "task_group_id": group, "endpoint_id": ENDPOINT}
    return Answer(200, {**ids, "tasks": {FUNCTION: list(tasks)}})


def bodies(cloud: ScriptedService) -> list[dict[str, object]]:
    return [json.loads(body) for line, _, body in cloud.requests if line.endswith("/submit")]


def test_calls_become_tasks_in_order(cloud: ScriptedService) -> None:
    heard = submit(cloud, [took(OURS, "t0", "t1")])
    assert [call.place.client for call in heard.calls] == ["C0", "C1"]
    assert heard.tasks == ["t0", "t1"] and not heard.groups and not heard.errors
    assert bodies(cloud)[0]["task_group_id"] == OURS


def test_a_service_that_takes_groups_of_its_own_making_alone(cloud: ScriptedService) -> None:
    refusal = Answer(404, {"code": "TASK_GROUP_NOT_FOUND", "message": "No such group."})
    heard = submit(cloud, [refusal, took(THEIRS, "t0", "t1")])
    assert heard.groups == [(OURS, THEIRS)] and heard.tasks == ["t0", "t1"]
    assert ["task_group_id" in body for body in bodies(cloud)] == [True, False]


def test_an_answer_with_too_few_tasks_fails_the_calls(cloud: ScriptedService) -> None:
    heard = submit(cloud, [took(OURS, "t0")])
    assert len(heard.calls) == 2 and "1 tasks of 2 calls" in str(heard.errors[0])


def test_an_outage_is_waited_out_and_told(cloud: ScriptedService) -> None:
    outage = Answer(502, {"code": "BAD_GATEWAY", "message": "\x1b[2Jdown"})
    heard = submit(cloud, [outage, outage, took(OURS, "t0", "t1")])
    assert heard.tasks == ["t0", "t1"] and heard.words[0].endswith("Trying again.")
    assert "\x1b" not in "".join(heard.words)


def test_an_outage_that_lasts_ends_the_patience(cloud: ScriptedService) -> None:
    outage = Answer(502, {"code": "BAD_GATEWAY", "message": "down"})
    heard = submit(cloud, [outage] * 20, patience=0.5)
    assert len(heard.errors) == 1 and not isinstance(heard.errors[0], DeliveryError) and not heard.tasks


def test_a_retry_after_is_waited_for(cloud: ScriptedService) -> None:
    slow_down = Answer(429, {"code": "RATE", "message": "slow"}, {"Retry-After": "1"})
    heard = submit(cloud, [slow_down, slow_down, took(OURS, "t0", "t1")])
    assert heard.tasks == ["t0", "t1"] and "fewer requests" in heard.words[0]


def test_a_refusal_is_told_at_once(cloud: ScriptedService) -> None:
    heard = submit(cloud, [Answer(403, {"code": "FORBIDDEN", "message": "no"}), took(OURS, "t0", "t1")])
    assert len(heard.errors) == 1 and not heard.tasks and len(bodies(cloud)) == 1
