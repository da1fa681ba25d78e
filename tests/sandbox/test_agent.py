"""The real agent and the SDK's real Executor over the sandbox."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.sdk.executor import _RESULT_WATCHERS

from appfl_gc.hpc.endpoint import agent
from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.sandbox import Sandbox
from tests.sandbox.conftest import ENDPOINT_ID, LOST_AFTER
from tests.sandbox.rest import DEADLINE, wait_until

POLL_SECONDS = 0.5
"""How often the agent acknowledges the tasks that it has taken; nothing outside it shows whether it has."""
DOUBLE = "def double(x):\n    return 2 * x\n"
WAIT = (
    "def wait(started, until):\n"
    "    import pathlib, time\n"
    "    pathlib.Path(started).touch()\n"
    "    while not pathlib.Path(until).exists():\n"
    "        time.sleep(0.05)\n"
    "    return 'waited'\n"
)


@contextmanager
def _executor() -> Iterator[Executor]:
    executor = Executor(ENDPOINT_ID, api_burst_limit=8, api_burst_window_s=1, task_group_id=uuid.uuid4())
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        watcher = _RESULT_WATCHERS.get(executor.task_group_id)  # the SDK would keep its connection
        if watcher is not None:
            watcher.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def executor(environment: None, site: str) -> Iterator[Executor]:
    """An Executor whose pace is not held back, with a task group of its own."""
    with _executor() as executor:
        yield executor


@pytest.fixture
def wait(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The files of ``WAIT``: made when it has started, and for it to end."""
    yield str(tmp_path / "started"), str(tmp_path / "until")
    (tmp_path / "until").touch()  # the one worker is for the next test, however this one ended


def _function(executor: Executor, source: str) -> str:
    name = source.split("(")[0].removeprefix("def ")
    return str(executor.client.register_source_code(source, name))


def _offline(sandbox: Sandbox) -> bool:
    return not next(one for one in sandbox.state()["endpoints"] if one["id"] == ENDPOINT_ID)["online"]


def test_a_task_goes_to_a_worker_and_its_result_comes_back(sandbox: Sandbox, executor: Executor) -> None:
    future = executor.submit_to_registered_function(_function(executor, DOUBLE), (21,))
    assert future.result(DEADLINE) == 42
    task = Client().get_task(future.task_id)
    assert (task["status"], task["result"]) == ("success", 42)
    assert executor.client.get_endpoint_status(task["details"]["endpoint_id"])["status"] == "online"


def test_an_exception_at_the_site_comes_back_as_text(executor: Executor) -> None:
    function = _function(executor, "def bad():\n    raise ValueError('no data for client 7')\n")
    with pytest.raises(TaskExecutionFailed, match="no data for client 7"):
        executor.submit_to_registered_function(function).result(DEADLINE)


def test_a_hostile_result_is_live_and_stored_and_the_real_one_comes_too_late(
    sandbox: Sandbox, executor: Executor, wait: tuple[str, str]
) -> None:
    future = executor.submit_to_registered_function(_function(executor, WAIT), wait)
    wait_until(lambda: Path(wait[0]).exists() and future.task_id)
    task_id = future.task_id
    wait_until(lambda: executor.client.get_task(task_id)["status"] == "running")
    sandbox.inject_result(task_id, "\x1b[2J not what the site sent", as_exception=True)
    with pytest.raises(TaskExecutionFailed, match="not what the site sent"):
        future.result(DEADLINE)
    Path(wait[1]).touch()
    reply = executor.client._compute_web_client.v2.get_task(task_id)
    assert reply["exception"] == "\x1b[2J not what the site sent"
    with pytest.raises(SandboxError, match="without a result"):
        sandbox.inject_result(task_id, "twice")


@pytest.mark.chaos
def test_dropped_connections_lose_no_result(
    sandbox: Sandbox, executor: Executor, wait: tuple[str, str]
) -> None:
    future = executor.submit_to_registered_function(_function(executor, WAIT), wait)
    wait_until(Path(wait[0]).exists)
    wait_until(lambda: sandbox.state()["amqp_connections"]["clients"] == 1)
    before = sandbox.state()["amqp_accepted"]["clients"]
    sandbox.faults.drop_amqp(["clients"])
    wait_until(lambda: sandbox.state()["amqp_accepted"]["clients"] > before)
    Path(wait[1]).touch()
    assert future.result(DEADLINE) == "waited"


def test_refused_connections_leave_the_other_ways_open(
    sandbox: Sandbox, executor: Executor, wait: tuple[str, str]
) -> None:
    sandbox.faults.refuse_amqp(["clients"])
    try:
        executor.amqp_port = sandbox.description.amqp_ports["clients-443"]
        assert executor.submit_to_registered_function(_function(executor, DOUBLE), (4,)).result(DEADLINE) == 8
        assert sandbox.state()["amqp_connections"]["clients"] == 0
    finally:
        sandbox.faults.clear()


def test_another_identity_is_refused(sandbox: Sandbox, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sandbox.environment_of(sandbox.add_identity("stranger")).items():
        monkeypatch.setenv(name, value)
    with _executor() as executor:
        function = _function(executor, DOUBLE)
        # The agent registers as one for several users when it runs as root, and then it is the one that refuses.
        with pytest.raises(Exception, match=r"ENDPOINT_ACCESS_FORBIDDEN|untrusted identity"):
            executor.submit_to_registered_function(function, (1,)).result(DEADLINE)


@pytest.mark.chaos
def test_a_killed_user_endpoint_fails_its_task_after_a_while_and_another_one_is_started(
    sandbox: Sandbox, executor: Executor, wait: tuple[str, str]
) -> None:
    future = executor.submit_to_registered_function(_function(executor, WAIT), wait)
    wait_until(lambda: Path(wait[0]).exists() and future.task_id)
    time.sleep(3 * POLL_SECONDS)  # a task that is not acknowledged yet would be delivered again instead
    every = sandbox.state()["user_endpoints"]
    killed = next(one for one in every if future.task_id in one["unfinished"])
    workers = psutil.Process(killed["pid"]).children(recursive=True)
    os.kill(killed["pid"], signal.SIGKILL)
    for worker in workers:
        worker.kill()
    next(sandbox.endpoints_directory.glob(f"uep.*{killed['id']}/daemon.pid")).unlink()
    since = time.monotonic()
    with pytest.raises(TaskExecutionFailed, match="stopped sending heartbeats"):
        future.result(LOST_AFTER + DEADLINE)
    assert time.monotonic() - since > LOST_AFTER - 6
    assert executor.submit_to_registered_function(_function(executor, DOUBLE), (5,)).result(DEADLINE) == 10


@pytest.mark.chaos
def test_a_task_for_a_stopped_endpoint_waits_and_runs_after_its_start(
    sandbox: Sandbox, executor: Executor, site: str
) -> None:
    function = _function(executor, DOUBLE)
    agent.stop(site, sandbox.endpoints_directory)
    wait_until(lambda: _offline(sandbox))
    future = executor.submit_to_registered_function(function, (8,))
    wait_until(lambda: future.task_id)
    assert executor.client.get_task(future.task_id)["status"] == "waiting-for-ep"
    agent.start(site, sandbox.endpoints_directory, {**os.environ, **sandbox.environment})
    assert future.result(DEADLINE) == 16


def test_a_start_failure_fails_the_task_with_the_agents_words(sandbox: Sandbox, executor: Executor) -> None:
    executor.user_endpoint_config = {"endpoint_setup": 3}
    future = executor.submit_to_registered_function(_function(executor, DOUBLE), (1,))
    with pytest.raises(Exception, match="endpoint_setup"):
        future.result(DEADLINE)
