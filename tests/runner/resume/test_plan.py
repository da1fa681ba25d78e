"""What going on with a run would do, for every state that a call may be in."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from appfl_gc.control.globus_compute.rest import service as rest
from appfl_gc.control.globus_compute.rest.service import ServiceVersions
from appfl_gc.payload import checksum
from appfl_gc.protocol.errors import DeliveryError, ErrorClass, ErrorReport
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import Dispatch, UpdateId, UpdateMeta
from appfl_gc.report.resume_plan import plan_json, print_plan
from appfl_gc.runner.resume.invocation import Invocation
from appfl_gc.runner.resume.past import KeptUpdate, MetClient, PastRun, RoundsDone, UnansweredCall
from appfl_gc.runner.resume.plan import Fate, Item, Plan, items, make_plan
from appfl_gc.runner.run_directory import RunDirectory
from tests.small_federation import SmallFederation

ENDPOINT = "01234567-89ab-4def-8123-456789abcdef"
HERE = {"e": "local"}
TASKS = {name: f"{name * 8}-89ab-4def-8123-456789abcdef" for name in "abc"}


def call(client: str, **more: Any) -> UnansweredCall:
    return UnansweredCall(UpdateId(client, 4), 3, 1, {"endpoint": HERE.get(client, ENDPOINT)}, **more)


def kept(client: str) -> KeptUpdate:
    meta = UpdateMeta(UpdateId(client, 4), 3, 64, 5, Timing(0.0, 0.0, 0.0, 0.0))
    return KeptUpdate(meta, Ref("file", "f", 1, "c", "safetensors-1"), f"kept-{client}", "c", 9)


def past_run(directory: Path, *clients: str, **more: Any) -> PastRun:
    past = PastRun(RunDirectory(directory), run_id="run", clients=clients, rounds=RoundsDone(3, 9), **more)
    past.met = {client: MetClient(64, 1) for client in clients}
    return past


def fates(
    past: PastRun, at_service: Mapping[str, str], moved: Mapping[str, str] = HERE
) -> dict[str, list[Fate]]:
    found: dict[str, list[Fate]] = {}
    for item in items(past, at_service, moved):
        found.setdefault(item.client, []).append(item.fate)
    return found


def test_every_state_has_its_fate(tmp_path: Path) -> None:
    past = past_run(tmp_path, *"abcdefghij")
    past.accepted = {UpdateId("a", 4): kept("a")}
    past.open = {
        "b": call("b", task="known"),
        "c": call("c", task="forgotten"),
        "d": call("d"),
        "e": call("e"),
        "f": call("f", failed=True, checkpoint_steps=40),
    }
    past.wanted = {"g": Dispatch("g", 4, 3)}
    past.set_aside = {"h"}
    past.last_failure = {"h": ErrorReport(ErrorClass.STORAGE, "Its disk is full.")}
    del past.met["i"]
    assert fates(past, {"b": "The service says: running."}) == {
        "a": [Fate.USED],
        "b": [Fate.ATTACHED],
        "c": [Fate.SENT_AGAIN],
        "d": [Fate.LOOKED_FOR],
        "e": [Fate.SENT_AGAIN],
        "f": [Fate.SENT_AGAIN],
        "g": [Fate.SENT],
        "h": [Fate.GREETED],
        "i": [Fate.GREETED],
        "j": [Fate.NOTHING],
    }
    details = {item.client: item.detail for item in items(past, {}, HERE)}
    assert details["f"] == "It had failed. Its site has a checkpoint after 40 steps."
    assert "Its disk is full." in details["h"]


def test_after_an_orderly_end_calls_are_sent_again_whatever_the_service_says(tmp_path: Path) -> None:
    past = past_run(tmp_path, "b", orderly=True)
    past.open = {"b": call("b", task="known")}
    assert fates(past, {"b": "The service says: running."}) == {"b": [Fate.SENT_AGAIN]}


def test_a_call_of_a_client_that_is_at_another_endpoint_now_is_sent_again(tmp_path: Path) -> None:
    past = past_run(tmp_path, "b")
    past.open = {"b": call("b", task="known")}
    running = {"b": "The service says: running."}
    assert fates(past, running) == {"b": [Fate.ATTACHED]}
    assert fates(past, running, {"b": ENDPOINT.replace("0", "f")}) == {"b": [Fate.SENT_AGAIN]}


class Service:
    """The Globus Compute service in an hour of maintenance, or after it."""

    answers: Mapping[str, Any] | None = None
    online = True

    def __init__(self, identity: Any, **_: Any) -> None:
        self.identity = identity

    def task_batch(self, tasks: Any) -> dict[str, Any]:
        if self.answers is None:
            raise DeliveryError("The Globus Compute service can't be reached.")
        return {task: self.answers[task] for task in tasks if task in self.answers}

    def endpoint_status(self, endpoint_id: str) -> dict[str, Any]:
        return {"status": "online" if self.online else "offline"}

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        return {}

    def versions(self) -> ServiceVersions:
        if self.answers is None:
            raise DeliveryError("The Globus Compute service can't be reached.")
        return ServiceVersions("2.0.0", "2.0.0", "4.0.0")

    def __getattr__(self, name: str) -> Any:
        def ask(*_: Any) -> Any:
            raise DeliveryError(f"{name} is not asked for here.")

        return ask

    def close(self) -> None:
        """Nothing to drop."""


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PastRun, Invocation]:
    """A run of three clients at an endpoint, with a call of each in flight."""
    monkeypatch.setattr(rest, "ComputeService", Service)
    monkeypatch.setattr(Service, "answers", None)
    monkeypatch.setattr(Service, "online", True)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", ENDPOINT)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "very-secret")
    federation = SmallFederation(
        tmp_path / "project",
        clients=3,
        client={n: {"endpoint_id": ENDPOINT} for n in range(3)},
        server={"control_configs": {"results": "poll"}},
    )
    server, clients = federation.write()
    directory = tmp_path / "run"
    (directory / "payloads").mkdir(parents=True)
    (directory / "payloads" / "initial.safetensors").touch()
    invocation = Invocation(server, clients, tmp_path)
    (directory / "config.json").write_text(json.dumps(invocation.federation().resolved()))
    past = past_run(directory, "Client1", "Client2", "Client3")
    past.model = "initial.safetensors"
    past.model_checksum = checksum.of_file(past.model_file)
    past.open = {f"Client{n}": call(f"Client{n}", task=task) for n, task in enumerate(TASKS.values(), 1)}
    return past, invocation


def test_the_service_is_asked_what_it_remembers(
    remote: tuple[PastRun, Invocation], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, done, _ = TASKS.values()
    answers = {running: {"status": "running"}, done: {"status": "success", "result": "x"}}
    monkeypatch.setattr(Service, "answers", answers)
    found = make_plan(*remote, lambda _: None)
    assert list(found.items) == [
        Item("Client1", 4, Fate.ATTACHED, "The service says: running."),
        Item("Client2", 4, Fate.ATTACHED, "Its answer is there."),
        Item("Client3", 4, Fate.SENT_AGAIN, "The service does not know it any more."),
    ]


def test_an_endpoint_that_is_offline_and_a_service_that_is_down_are_failures(
    remote: tuple[PastRun, Invocation], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {("tasks", ErrorClass.SERVICE), ("versions", ErrorClass.SERVICE)} <= failures(remote)
    monkeypatch.setattr(Service, "answers", {})
    assert failures(remote) == set()
    monkeypatch.setattr(Service, "online", False)
    assert failures(remote) == {("status", ErrorClass.SERVICE)}


def failures(remote: tuple[PastRun, Invocation]) -> set[tuple[str, ErrorClass | None]]:
    rows = make_plan(*remote, lambda _: None).rows
    return {(row.check, row.error_class) for row in rows if row.error_class is not None}


def test_people_and_programs_are_told_the_same(
    remote: tuple[PastRun, Invocation], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = make_plan(*remote, lambda _: None)
    document = plan_json(found, 6)
    assert json.loads(json.dumps(document)) == document
    assert (document["rounds"], document["updates"], document["exit_code"]) == (3, 9, 6)
    text = shown(found)
    assert "kept: 3 rounds (9 updates)" in text
    for item in found.items:
        assert item.client in text
    assert "very-secret" not in text + json.dumps(document)


def shown(plan: Plan) -> str:
    stream = io.StringIO()
    print_plan(Console(file=stream, width=200, markup=False, highlight=False), plan)
    return stream.getvalue()
