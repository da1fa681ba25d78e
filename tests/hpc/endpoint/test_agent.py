"""Start, status and stop with the real agent over a sandbox: nothing is left, and its own words are shown."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from appfl_gc.hpc.endpoint import agent, processes
from appfl_gc.hpc.endpoint.agent import State
from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.hpc.endpoint.worker_environment import MARKER
from appfl_gc.protocol.errors import EndpointError, LoginError, NotSupportedError, UsageError, VersionError
from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings
from tests.globus_compute.sites import wait_for

IDENTIFIER = str(uuid.uuid4())
TASK = """
import sys
from globus_compute_sdk import Executor
def look():
    import os
    import appfl_gc
    return [os.getpid(), os.environ.get("GLOBUS_COMPUTE_CLIENT_SECRET", "")]
with Executor(endpoint_id=sys.argv[1]) as executor:
    print(executor.submit(look).result(90))
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if shutil.which("rabbitmq-server", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("rabbitmq-server is not installed")
    with Sandbox.start(tmp_path_factory.mktemp("sandbox"), SandboxSettings(requests=0)) as sandbox:
        yield sandbox


@pytest.fixture
def environ(sandbox: Sandbox) -> Mapping[str, str]:
    return {**os.environ, **sandbox.environment}


@pytest.fixture
def site(endpoints: Path, tmp_path: Path) -> Iterator[Path]:
    """An endpoint with a UUID of our choice; whatever it left is ended by pid."""
    options = EndpointOptions(
        engine=POOL_ENGINE, directory=tmp_path / "files", heartbeat_seconds=5, endpoint_id=IDENTIFIER
    )
    directory = configure("site", options, endpoints).directory
    yield directory
    processes.end(processes.processes_of(directory))


def test_a_life(site: Path, endpoints: Path, environ: Mapping[str, str]) -> None:
    started = agent.start("site", endpoints, environ)
    assert started.state is State.RUNNING
    assert started.endpoint_id == IDENTIFIER
    assert started.pid is not None
    assert os.getsid(started.pid) == started.pid  # what it does to its process group does not reach us
    with pytest.raises(UsageError, match=f"runs already \\(process {started.pid}\\)"):
        agent.start("site", endpoints, environ)

    told = subprocess.run(
        [sys.executable, "-c", TASK, IDENTIFIER], env=environ, capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    worker, secret = json.loads(told.stdout.replace("'", '"'))
    assert secret == ""  # the agent logs in with it; tasks don't see it
    running = agent.status("site", endpoints)
    assert {started.pid, worker} < set(running.processes)

    # A user endpoint that can't tidy up leaves its workers; stopping ends them too.
    (user_endpoint,) = [one for one in psutil.Process(started.pid).children() if one.pid != worker]
    user_endpoint.kill()
    assert worker in agent.stop("site", endpoints)
    assert not psutil.pid_exists(worker)
    assert processes.processes_of(site) == []
    stopped = agent.status("site", endpoints)
    assert (stopped.state, stopped.pid, stopped.processes) == (State.STOPPED, None, ())

    again = agent.start("site", endpoints, environ)
    assert again.endpoint_id == IDENTIFIER
    assert [one.name for one in agent.list_endpoints(endpoints)] == ["site"]
    os.kill(int((site / "daemon.pid").read_text()), signal.SIGKILL)
    wait_for_end(int((site / "daemon.pid").read_text()))
    assert agent.status("site", endpoints).state is State.STOPPED
    third = agent.start("site", endpoints, environ)  # the agent itself would refuse: its pid file is fresh
    assert third.state is State.RUNNING
    agent.stop("site", endpoints)
    assert agent.stop("site", endpoints) == ()


def wait_for_end(pid: int) -> None:
    wait_for(lambda: not (psutil.pid_exists(pid) and processes.running(psutil.Process(pid))))


def test_the_agents_own_words(site: Path, endpoints: Path, environ: Mapping[str, str]) -> None:
    with pytest.raises(EndpointError) as caught:
        agent.start("site", endpoints, {**environ, "GLOBUS_COMPUTE_CLIENT_SECRET": "wrong-secret"})
    message = str(caught.value)
    assert "The agent of the endpoint site ended with status" in message
    assert "401" in message or "Unauthorized" in message or "invalid_client" in message
    assert "wrong-secret" not in message
    assert "Traceback" not in message
    assert agent.status("site", endpoints).state is State.STOPPED


def test_no_login(site: Path, endpoints: Path, sandbox: Sandbox) -> None:
    with pytest.raises(LoginError, match="no login") as caught:
        agent.start("site", endpoints, {**os.environ, **sandbox.login_environment})
    assert "appfl-gc login" in caught.value.hint
    assert processes.processes_of(site) == []


def test_an_older_file(site: Path, endpoints: Path, environ: Mapping[str, str]) -> None:
    (site / "config.yaml").write_text("engine: {type: GlobusComputeEngine}\n")
    with pytest.raises(EndpointError, match="contains an `engine` field"):
        agent.start("site", endpoints, environ)


def test_a_service_that_does_not_answer(site: Path, endpoints: Path, environ: Mapping[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # Both spellings: whichever the sandbox set must not win.
        blocked = {**environ, "HTTP_PROXY": proxy, "http_proxy": proxy}
        blocked["GLOBUS_SDK_SERVICE_URL_AUTH"] = f"{proxy}/"
        with pytest.raises(EndpointError, match="not registered within 3 seconds"):
            agent.start("site", endpoints, blocked, deadline_seconds=3)
    assert processes.processes_of(site) == []
    assert not (site / "daemon.pid").exists()


@pytest.mark.parametrize("host", ["login02", None])
def test_an_endpoint_that_runs_elsewhere(host: str | None, site: Path, endpoints: Path) -> None:
    """Starting or stopping it here would end the other machine's agent: it watches its pid file."""
    pid = site / "daemon.pid"
    pid.write_text("1")
    if host:
        (site / "appfl_gc_host.json").write_text(json.dumps({"host": host, "pid": 1}))
    assert agent.status("site", endpoints).state is State.ELSEWHERE
    for act in (agent.start, agent.stop):
        with pytest.raises(UsageError, match=host or "another machine"):
            act("site", endpoints)
    assert pid.exists()
    os.utime(pid, (0, 0))  # nobody has touched it for long
    assert agent.status("site", endpoints).state is State.STOPPED


def test_a_pid_that_another_program_has_now(site: Path, endpoints: Path) -> None:
    (site / "daemon.pid").write_text(str(os.getpid()))
    (site / "appfl_gc_host.json").write_text(json.dumps({"host": os.uname().nodename, "pid": os.getpid()}))
    assert agent.status("site", endpoints).state is State.STOPPED
    assert agent.stop("site", endpoints) == ()


def test_leftovers_are_found_and_ended(site: Path, endpoints: Path) -> None:
    left = subprocess.Popen(["sleep", "600"], env={**os.environ, MARKER: str(site)}, start_new_session=True)
    try:
        wait_for(lambda: processes.processes_of(site))  # a process that just started has no environment yet
        assert agent.status("site", endpoints).state is State.LEFTOVERS
        assert agent.stop("site", endpoints) == (left.pid,)
    finally:
        left.kill()
        left.wait()


def test_what_cannot_be_started(
    endpoints: Path, tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="no endpoint nowhere"):
        agent.start("nowhere", endpoints)
    monkeypatch.setattr(agent, "binaries", lambda: tmp_path)
    with pytest.raises(VersionError, match="not installed"):
        agent.start("site", endpoints)
    with pytest.raises(NotSupportedError, match="Linux only"):
        agent.require_linux("darwin")
