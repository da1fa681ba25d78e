"""One sandbox for all tests that a process runs here; agents are shared by the tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings
from tests.globus_compute.sites import Site, running
from tests.runner.conftest import model_bits, train
from tests.small_federation import SmallFederation


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A service that never gives a silent endpoint up, and without a limit of requests."""
    if shutil.which("rabbitmq-server", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("rabbitmq-server is not installed")
    settings = SandboxSettings(requests=0, lost_after_seconds=None)
    with Sandbox.start(tmp_path_factory.mktemp("sandbox"), settings) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", autouse=True)
def environment(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sandbox's variables for the SDK and the agents, and a home without anybody's policy."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.environment.items():
            patch.setenv(name, value)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("APPFL_GC_SITE_POLICY", raising=False)
        yield


@pytest.fixture(scope="module")
def sites(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, environment: None
) -> Iterator[tuple[Site, Site]]:
    """Two sites of the sandbox's first identity."""
    directory = tmp_path_factory.mktemp("sites")
    both = Site("one", directory), Site("two", directory)
    with running(*both, sandbox=sandbox):
        yield both


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bits of ``federation`` trained on this machine, without any service."""
    return model_bits(train(small(tmp_path_factory.mktemp("reference"))))


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    return small(tmp_path / "project")


def small(directory: Path) -> SmallFederation:
    """Two clients whose bits do not depend on the number of cores."""
    return SmallFederation(directory, train={"num_threads": 1})
