"""Calls of a process that was killed, attached to from another one: real agent, sandbox service."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appfl_gc.control.globus_compute.identity import identity_from
from appfl_gc.control.globus_compute.plane import Target
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import DeliveryError, ErrorClass, ForgottenError, StartFailedError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.calling import DEADLINE, QUICK, Caller, calling
from tests.globus_compute.sites import Site, running, wait_for

# What a server does until it is killed: it submits, and writes down what a journal would hold.
SERVER = """
import json, sys, time
from pathlib import Path
from tests.globus_compute.calling import QUICK, calling
from appfl_gc.control.plane import CallState

endpoint, directory, clients = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
with calling(endpoint) as caller:
    futures = {client: caller.held(directory / client, client) for client in clients}
    caller.holding.clear()
    for client in clients:
        while not any(p.task and p.call.identity.client == client for p in caller.heard):
            time.sleep(0.01)
    tasks = {p.call.identity.client: p.task for p in caller.heard if p.task}
    print(json.dumps({"group": caller.plane.task_group(caller.heard[0].call), "tasks": tasks}), flush=True)
    for line in sys.stdin:
        print(json.dumps({client: future.result(60).to_json() for client, future in futures.items()}), flush=True)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, environment: None, sandbox: Sandbox) -> Iterator[Site]:
    site = Site("attach", tmp_path_factory.mktemp("attach"))
    with running(site, sandbox=sandbox):
        yield site


class Server:
    """Another process that has submitted calls: ``group`` and ``tasks`` are what it wrote down."""

    def __init__(self, site: Site, directory: Path, clients: str) -> None:
        for client in clients:
            (directory / client).mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, site.endpoint_id, str(directory), clients],
            env={**os.environ, "PYTHONPATH": "."},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        written = self._line()
        self.group, self.tasks = str(written["group"]), {c: str(t) for c, t in written["tasks"].items()}

    def replies(self) -> dict[str, Reply]:
        """What it got itself."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return {client: Reply.from_json(value) for client, value in self._line().items()}

    def _line(self) -> dict[str, dict[str, str]]:
        assert self.process.stdout is not None
        line: dict[str, dict[str, str]] = json.loads(self.process.stdout.readline())
        return line

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@contextlib.contextmanager
def submitted(site: Site, directory: Path, clients: str = "A") -> Iterator[Server]:
    """A server with one held call for each of ``clients``; it and its calls end with the block."""
    server = Server(site, directory, clients)
    try:
        yield server
    finally:
        server.kill()
        for client in clients:
            (directory / client / "go").touch()


def earlier_call(client: str = "A", nonce: str = "n") -> Call:
    """As much of a call as a journal tells."""
    return Call(CallId("run", 0, client), "trainer.sample_size", nonce=nonce)


def test_a_call_that_runs_when_its_server_is_killed_is_answered(site: Site, tmp_path: Path) -> None:
    with submitted(site, tmp_path, "AB") as server:
        wait_for(lambda: list(tmp_path.glob("*/held")))
        server.kill()
        with calling(site.endpoint_id) as caller:
            futures = {
                client: caller.plane.attach(earlier_call(client), server.group, server.tasks[client])
                for client in "AB"
            }
            wait_for(lambda: CallState.RUNNING in caller.states("A"))
            assert not futures["A"].done() and not futures["B"].done()
            for client in futures:
                (tmp_path / client / "go").touch()
            for client, future in futures.items():
                reply = future.result(DEADLINE)
                assert (reply.identity.client, reply.values["sample_size"]) == (client, 1)
            assert {progress.task for progress in caller.heard} == set(server.tasks.values())
            assert caller.hello("C").result(DEADLINE).values["torch"] is True


def test_a_call_that_was_answered_before_has_the_same_answer(site: Site, tmp_path: Path) -> None:
    with submitted(site, tmp_path, "AB") as server:
        for client in "AB":
            (tmp_path / client / "go").touch()
        replies = server.replies()
        server.kill()
        with calling(site.endpoint_id) as caller:
            known = caller.plane.attach(earlier_call("A"), server.group, server.tasks["A"])
            looked_for = caller.plane.attach(earlier_call("B"), server.group, "")
            assert known.result(DEADLINE) == replies["A"]
            assert looked_for.result(DEADLINE) == replies["B"]


def test_a_reply_with_another_nonce_is_refused(site: Site, tmp_path: Path) -> None:
    with submitted(site, tmp_path) as server:
        (tmp_path / "A" / "go").touch()
        server.replies()
        with calling(site.endpoint_id) as caller:
            foreign = caller.plane.attach(earlier_call(nonce="another"), server.group, server.tasks["A"])
            looked_for = caller.plane.attach(earlier_call(nonce="another"), server.group, "")
            with pytest.raises(DeliveryError, match=r"not a reply to its call.*client A, endpoint") as caught:
                foreign.result(DEADLINE)
            assert caught.value.error_class is ErrorClass.PROTOCOL
            with pytest.raises(ForgottenError, match="no task in the call's task group"):
                looked_for.result(DEADLINE)


def test_a_call_whose_task_was_never_heard_of_is_found_when_it_is_done(site: Site, tmp_path: Path) -> None:
    with submitted(site, tmp_path) as server:
        wait_for(lambda: (tmp_path / "A" / "held").exists())
        server.kill()
        with calling(site.endpoint_id) as caller:
            found = caller.plane.attach(earlier_call(), server.group, "")
            never_sent = caller.plane.attach(earlier_call("B"), server.group, "")
            # Both were asked about once this later one was, and the task in the group may be either.
            with pytest.raises(ForgottenError):
                caller.plane.attach(earlier_call(), str(uuid.uuid4()), "").result(DEADLINE)
            assert not found.done() and not never_sent.done()
            (tmp_path / "A" / "go").touch()
            assert found.result(DEADLINE).values["sample_size"] == 1
            with pytest.raises(ForgottenError):
                never_sent.result(DEADLINE)


def test_what_the_service_has_forgotten_or_hides_is_forgotten(
    site: Site, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sandbox.add_identity("stranger")
    monkeypatch.setenv("STRANGER_CLIENT_ID", other.client_id)
    monkeypatch.setenv("STRANGER_CLIENT_SECRET", other.client_secret)
    stranger = {"A": Target(site.endpoint_id, identity_from("STRANGER", []))}

    def attach(caller: Caller, task: str = "") -> None:
        future = caller.plane.attach(earlier_call(), server.group, task or server.tasks["A"])
        with pytest.raises(ForgottenError, match=r"client A, endpoint .*, task "):
            future.result(DEADLINE)

    with submitted(site, tmp_path) as server, calling(site.endpoint_id) as caller:
        (tmp_path / "A" / "go").touch()
        server.replies()
        attach(caller, str(uuid.uuid4()))
        with calling(stranger) as hidden:
            attach(hidden)
        sandbox.faults.forget_results()
        attach(caller)
        sandbox.faults.forget_tasks()
        attach(caller)


@pytest.mark.chaos
def test_a_call_that_no_agent_has_taken_when_its_server_is_killed_is_answered(
    site: Site, tmp_path: Path
) -> None:
    site.stop()
    with submitted(site, tmp_path) as server:
        server.kill()
        with calling(site.endpoint_id, replace(QUICK, lost_after_seconds=60.0)) as caller:
            future = caller.plane.attach(earlier_call(), server.group, server.tasks["A"])
            (tmp_path / "A" / "go").touch()
            site.start_again()
            assert future.result(DEADLINE).values["sample_size"] == 1


def test_an_attached_call_is_never_sent_again_from_here(site: Site, sandbox: Sandbox, tmp_path: Path) -> None:
    # For a call of its own the plane would wait and send once more; of this one it knows too little.
    said = "Unable to start: Another instance of this endpoint is running. (Perhaps on another login node?)"
    with submitted(site, tmp_path) as server, calling(site.endpoint_id) as caller:
        wait_for(lambda: (tmp_path / "A" / "held").exists())
        future = caller.plane.attach(earlier_call(), server.group, server.tasks["A"])
        sandbox.inject_result(server.tasks["A"], said, as_exception=True)
        with pytest.raises(StartFailedError):
            future.result(DEADLINE)
