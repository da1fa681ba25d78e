"""The service is killed with all that it knew: the run ends in words, and goes on over the next service."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.api import resume
from appfl_gc.runner.events import Outcome
from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings
from tests.faults.table import record
from tests.globus_compute.conftest import federation, reference  # noqa: F401  fixtures
from tests.globus_compute.sites import Site, at_sites, holding, running, wait_for
from tests.runner.conftest import model_bits, train
from tests.small_federation import METRIC, SmallFederation

pytestmark = pytest.mark.chaos
SETTINGS = SandboxSettings(requests=0, lost_after_seconds=None)


class Bench:
    """A service that can be killed and followed by another one, which knows nothing of it."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self._directory, self._patch = directory, patch
        self.sandbox = self._begin()

    def _begin(self) -> Sandbox:
        sandbox = Sandbox.start(self._directory, SETTINGS)
        for name, value in sandbox.environment.items():
            self._patch.setenv(name, value)
        return sandbox

    def kill(self) -> None:
        """End it at once, its broker with it."""
        os.kill(self.sandbox.pids["service"], signal.SIGKILL)

    def begin_anew(self) -> None:
        """Another service in its place."""
        self.sandbox.stop()
        self.sandbox = self._begin()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    if shutil.which("rabbitmq-server", path="/usr/sbin:/usr/local/sbin:/usr/bin") is None:
        pytest.skip("rabbitmq-server is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("APPFL_GC_SITE_POLICY", raising=False)
    bench = Bench(tmp_path / "sandbox", monkeypatch)
    yield bench
    bench.sandbox.stop()


@pytest.mark.parametrize(
    "when", ["while a call trains", "when a call has trained and its reply is on its way"]
)
def test_a_lost_service_ends_the_run_which_goes_on_over_the_next_one(
    bench: Bench,
    federation: SmallFederation,  # noqa: F811
    reference: bytes,  # noqa: F811
    tmp_path: Path,
    when: str,
) -> None:
    site = Site("site", tmp_path / "site")
    held, go = tmp_path / "held", tmp_path / "go"
    federation.metric = holding(METRIC, tmp_path)
    federation.server["fault_tolerance_configs"] = {"retries": 0, "quorum": 2}

    def answers() -> int:
        return len([*site.directory.rglob("outbox/*/*/*.json")])

    with running(site, sandbox=bench.sandbox):

        def disturb() -> None:
            try:
                wait_for(lambda: held.exists() and held.read_text())
                if when.startswith("when"):
                    before = answers()
                    bench.sandbox.faults.refuse_amqp(["agents"])
                    go.touch()
                    wait_for(lambda: answers() > before)
            finally:
                bench.kill()
                go.touch()

        watcher = threading.Thread(target=disturb)
        watcher.start()
        first = train(at_sites(federation, site, site), "server_configs.control_configs.lost_after_seconds=4")
        watcher.join()
        assert (first.outcome, first.rounds) == (Outcome.FAILED, 0)
        assert first.error is not None
        assert first.error.error_class is ErrorClass.SERVICE, first.error
        site.stop()
        bench.begin_anew()
        site.start()
        wait_for(lambda: all(one["online"] for one in bench.sandbox.state()["endpoints"]))
        second = resume(first.run_dir)
        assert second.outcome is Outcome.FINISHED, second.error
        assert model_bits(second) == reference
    record(
        f"SIGKILL of the service, which forgets everything, {when}",
        1,
        "ended in words; resumed over a new service: finished, same bits",
        "calls in flight are sent again; what had trained is answered from the outbox",
    )
