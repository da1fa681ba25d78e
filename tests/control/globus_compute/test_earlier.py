"""Attached calls: what the service says, refuses and forgets of them. The real service is in tests/globus_compute."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appfl_gc.control.globus_compute.failing.failures import Place
from appfl_gc.control.globus_compute.following import earlier, follower
from appfl_gc.control.globus_compute.following.follower import Follower
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.rest.patience import Patience
from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
from appfl_gc.control.globus_compute.rest.turnstile import Turnstile
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.submitter import Submitter
from appfl_gc.control.message import JSON_HEADER
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import DeliveryError, EndpointError, ForgottenError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply

ENDPOINT = "aaaaaaaa-5a4d-4b0c-8000-000000000001"
LONG, SOON, DEADLINE = 600.0, 0.3, 20.0
RUNNING = {"status": "running"}


class Service:
    """Knows the tasks of ``rows`` and the groups of ``groups``; ``refused`` tasks spoil the requests they are in."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {}
        self.groups: dict[str, list[str]] = {}
        self.refused: dict[str, Exception] = {}
        self.down: Exception | None = None
        self.status = "online"
        self.batches: list[list[str]] = []
        self.listed: list[str] = []

    def task_batch(self, tasks: list[str]) -> Any:
        self.batches.append(tasks)
        for task in tasks:
            if task in self.refused:
                raise self.refused[task]
        if self.down is not None:
            raise self.down
        return {task: self.rows[task] for task in tasks if task in self.rows}

    def task_group(self, group: str) -> list[str]:
        self.listed.append(group)
        if group not in self.groups:
            raise ForgottenError("The group is unknown.")
        return self.groups[group]

    def endpoint_status(self, endpoint: str) -> Any:
        return {"status": self.status}

    def close(self) -> None:
        """Nothing is open."""


class Attached:
    """Calls of one identity that are attached to over ``service``."""

    def __init__(self) -> None:
        self.service = Service()
        self.calls = OpenCalls(lambda progress: None)
        self.closing = threading.Event()
        self.texts: dict[str, str] = {}

    def follow(self, calls: dict[str, str], lost_after: float = LONG) -> dict[str, OpenCall]:
        """Attach to one call a client, with its task or "", all at once."""
        identity = Application(str(uuid.uuid4()), "secret", "the test")
        turnstile = Turnstile(RateLimit(1000, 1.0), self.closing)
        service: Any = self.service
        patience = Patience(identity, turnstile, lost_after)
        logger = logging.getLogger("test")
        submitter = Submitter(identity, service, patience, turnstile, "function", "poll", None, logger)
        lane = Lane(Target(ENDPOINT, identity), submitter)
        opened = {}
        for client, task in calls.items():
            place = Place(client, ENDPOINT, identity, task)
            one = OpenCall(call_of(client), lane, place, "group", 0, attached=True, taken=time.monotonic())
            opened[client] = one
            self.calls.add(one)

        def answered(one: OpenCall, text: str) -> None:
            self.texts[one.call.identity.client] = text
            self.calls.answer(one, Reply(one.call.identity, one.call.nonce))

        def failed(one: OpenCall, text: str) -> None:
            self.calls.fail([one], lambda _: DeliveryError(text))

        Follower(submitter, self.calls, lost_after, 0.02, 0.02, answered, failed, lambda: None, self.closing)
        return opened


def call_of(client: str) -> Call:
    return Call(CallId("run", 1, client), "trainer.train", nonce=f"nonce of {client}")


def done(client: str) -> dict[str, Any]:
    call = call_of(client)
    return {
        "status": "success",
        "result": JSON_HEADER + json.dumps(Reply(call.identity, call.nonce).to_json()),
    }


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attached]:
    """With pauses that are short."""
    for module, name in ((follower, "TICK"), (earlier, "FIRST"), (follower, "SHORTEST_STATUS")):
        monkeypatch.setattr(module, name, 0.01)
    attached = Attached()
    yield attached
    attached.closing.set()


def failure(call: OpenCall) -> Any:
    return call.future.exception(DEADLINE)


def forgotten(call: OpenCall) -> bool:
    error = failure(call)
    return isinstance(error, ForgottenError) and f"({call.place})" in error.message


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_known_task_is_followed_to_its_answer(attached: Attached) -> None:
    attached.service.rows["t"] = RUNNING
    calls = attached.follow({"A": "t"})
    wait_for(lambda: len(attached.service.batches) > 2)
    assert not calls["A"].future.done()
    attached.service.rows["t"] = done("A")
    assert failure(calls["A"]) is None
    assert attached.texts == {"A": done("A")["result"]}


def test_an_unknown_task_is_forgotten_at_once_and_hides_no_other(attached: Attached) -> None:
    attached.service.rows |= {"mine": done("A"), "failed": {"status": "failed", "exception": "WorkerLost"}}
    attached.service.rows["gone"] = {"status": "success", "reason": "Not kept any more."}
    attached.service.refused |= {"theirs": ForgottenError("Hidden."), "odd": EndpointError("No UUID.")}
    names = {"A": "mine", "B": "theirs", "C": "never heard of", "D": "gone", "E": "odd", "F": "failed"}
    calls = attached.follow(names)
    assert failure(calls["A"]) is None
    assert all(forgotten(calls[client]) for client in "BCDE")
    assert "WorkerLost" in str(failure(calls["F"]))


def test_a_service_that_fails_is_waited_for_and_not_taken_for_forgetful(attached: Attached) -> None:
    attached.service.down = DeliveryError("HTTP 503.")
    calls = attached.follow({"A": "t", "B": ""})
    wait_for(lambda: len(attached.service.batches) > 2)
    assert not any(call.future.done() for call in calls.values())
    attached.service.rows["t"], attached.service.down = done("A"), None
    assert failure(calls["A"]) is None


def test_a_service_that_stays_away_gives_the_calls_up(attached: Attached) -> None:
    attached.service.down = DeliveryError("HTTP 503.")
    error = failure(attached.follow({"A": "t"}, SOON)["A"])
    assert "could not be reached" in str(error) and not isinstance(error, ForgottenError)


@pytest.mark.parametrize("task", ["t", ""])
def test_an_endpoint_that_stays_away_gives_the_calls_up(attached: Attached, task: str) -> None:
    attached.service.rows["t"], attached.service.groups["group"] = RUNNING, ["t"]
    attached.service.status = "offline"
    assert "was offline for" in str(failure(attached.follow({"A": task}, SOON)["A"]))


def test_calls_without_a_task_are_found_in_their_group_which_is_listed_once(attached: Attached) -> None:
    attached.service.groups["group"] = ["of A", "of B", "of D", "of another", "broken", "lost", "unknown"]
    attached.service.rows |= {
        "of A": done("A"),
        "of B": RUNNING,
        "of D": done("D"),
        "of another": done("Z"),
        "broken": {"status": "success", "result": "11\n{"},
        "lost": {"status": "failed", "exception": "WorkerLost"},
    }
    calls = attached.follow({"A": "", "B": "", "C": "", "D": "of D"})
    assert failure(calls["A"]) is None and failure(calls["D"]) is None
    assert calls["A"].task == "of A"
    wait_for(lambda: attached.service.batches[-1] == ["of B"])
    assert not calls["B"].future.done() and not calls["C"].future.done()
    attached.service.rows["of B"] = done("B")
    assert failure(calls["B"]) is None
    assert forgotten(calls["C"]), "no task is left that may be its"
    assert attached.service.listed == ["group"]


def test_what_may_be_the_calls_is_waited_for_only_so_long(
    attached: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(earlier, "WAIT_FOR_LISTED", SOON)
    attached.service.groups["group"], attached.service.rows["t"] = ["t"], RUNNING
    calls = attached.follow({"A": ""})
    assert forgotten(calls["A"]) and time.monotonic() - calls["A"].opened > SOON


def test_a_group_that_the_service_does_not_know_is_forgotten(attached: Attached) -> None:
    assert forgotten(attached.follow({"A": ""})["A"])
