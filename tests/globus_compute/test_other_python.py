"""A site under another Python than the server's, without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from appfl_gc.control.globus_compute.identity import default_identity
from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings, Target
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import DEADLINE, Site, running

PYTHON = Path(__file__).parents[2] / "build" / "site-without-torch" / "bin" / "python"


@dataclass
class OtherSite(Site):
    """A site that is made and started by ``PYTHON``, whose environment its workers use."""

    def _run(self, code: str, **variables: str) -> str:
        text = (
            "import os\nfrom pathlib import Path\nfrom appfl_gc.hpc.endpoint import agent\n"
            "from appfl_gc.hpc.endpoint.configure import configure\n"
            "from appfl_gc.hpc.endpoint.options import EndpointOptions\n"
            f"name, directory = {self.name!r}, Path({str(self.directory)!r})\n{code}\n"
        )
        done = subprocess.run(
            [str(PYTHON), "-c", text],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def configure(self) -> None:
        self._run(
            f"configure(name, EndpointOptions(engine={self.engine!r}, directory=directory / 'files', "
            "heartbeat_seconds=5), directory)"
        )

    def start(self) -> None:
        self.endpoint_id = self._run("print(agent.start(name, directory).endpoint_id)").strip()


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, environment: None) -> Iterator[Site]:
    if not PYTHON.exists():
        pytest.skip(
            "there is no build/site-without-torch; `make other-site` makes it where a Python is there"
        )
    site = OtherSite("other_python", tmp_path_factory.mktemp("site"))
    with running(site, sandbox=sandbox):
        yield site


@pytest.fixture(scope="module")
def plane(site: Site) -> Iterator[GlobusComputePlane]:
    target = Target(site.endpoint_id, default_identity())
    plane = GlobusComputePlane({"A": target}, PlaneSettings(), lambda progress: None)
    yield plane
    plane.close()


def ask(plane: GlobusComputePlane, channel: str) -> Reply:
    return plane.submit(Call(CallId("run", 0, "A"), channel, nonce="n")).result(DEADLINE)


def test_a_site_under_another_python_says_hello(plane: GlobusComputePlane) -> None:
    reply = ask(plane, "site.hello")
    assert reply.error is None
    environment = reply.values["environment"]
    expected = subprocess.run([str(PYTHON), "-V"], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
    assert environment["python"] == expected  # type: ignore[index, call-overload]
    assert not expected.startswith("{}.{}.".format(*sys.version_info[:2]))
    assert reply.values["torch"] is False


def test_what_needs_torch_says_so(plane: GlobusComputePlane) -> None:
    reply = ask(plane, "trainer.sample_size")
    assert reply.error is not None
    assert reply.error.error_class is ErrorClass.VERSION
    assert "torch" in reply.error.message
