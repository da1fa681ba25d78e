"""One sandbox and one real agent for all tests here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from appfl_gc.hpc.endpoint import agent
from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings
from tests.sandbox.rest import Rest, wait_until

ENDPOINT_ID = "5b8f2b3e-3d0f-4f37-9a77-0c6f8f3b2a10"
LOST_AFTER = 20.0
"""Four heartbeats: one that is late on a busy machine fails no task."""


@pytest.fixture(scope="package")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A service that gives up an endpoint soon, with the cloud's limits."""
    settings = SandboxSettings(lost_after_seconds=LOST_AFTER)
    with Sandbox.start(tmp_path_factory.mktemp("sandbox") / "root", settings) as sandbox:
        yield sandbox


@pytest.fixture
def rest(sandbox: Sandbox) -> Callable[[], Rest]:
    """Makes a client of the REST service with an identity of its own, whose requests nobody else uses up."""
    return lambda: Rest(sandbox, sandbox.add_identity("tester"))


@pytest.fixture(scope="package")
def site(sandbox: Sandbox) -> str:
    """The name of an endpoint with a running agent, owned by the sandbox's first identity."""
    options = EndpointOptions(
        engine=POOL_ENGINE, endpoint_id=ENDPOINT_ID, heartbeat_seconds=5, idle_seconds=0
    )
    configure("site", options, sandbox.endpoints_directory)
    agent.start("site", sandbox.endpoints_directory, {**os.environ, **sandbox.environment})
    wait_until(lambda: any(one["online"] for one in sandbox.state()["endpoints"]))
    return "site"


@pytest.fixture
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox's variables, for the SDK in this process."""
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
