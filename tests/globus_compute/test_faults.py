"""What happens to endpoints, connections and the service in mid-run: every run ends, with the same bits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from appfl_gc.runner.api import RunResult
from appfl_gc.runner.events import Outcome, RoundFinished, RunEvent
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import Site, at_sites, holding, wait_for
from tests.runner.conftest import Heard, model_bits, train
from tests.small_federation import METRIC, SmallFederation


class Held:
    """A federation whose first validation at a site waits until the test lets it go on."""

    def __init__(self, federation: SmallFederation, directory: Path) -> None:
        self.federation = federation
        self._held, self._go = directory / "held", directory / "go"
        federation.metric = holding(METRIC, directory)

    def train(self, act: Callable[[], object], *overrides: str) -> RunResult:
        """Train; ``act`` is called in mid-training, then the training goes on."""
        failed: list[BaseException] = []

        def watch() -> None:
            try:
                wait_for(lambda: self._held.exists() and self._held.read_text())
                act()
            except BaseException as error:  # noqa: BLE001  the run must not wait for a test that failed
                failed.append(error)
            finally:
                self._go.touch()

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = train(self.federation, *overrides)
        watcher.join()
        if failed:
            raise failed[0]
        return result

    @property
    def pid(self) -> int:
        """The worker that is held, or was."""
        return int(self._held.read_text())


@pytest.fixture
def held(federation: SmallFederation, sites: tuple[Site, Site], tmp_path: Path) -> Iterator[Held]:
    at_sites(federation, *sites)
    yield Held(federation, tmp_path)


def test_an_endpoint_that_stops_and_starts_between_rounds(
    federation: SmallFederation, sites: tuple[Site, Site], reference: bytes
) -> None:
    def act(event: RunEvent) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            sites[1].stop()
            threading.Timer(2.0, sites[1].start_again).start()

    result = train(at_sites(federation, *sites), heard=Heard(act))
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference


def test_a_user_endpoint_that_is_killed_in_mid_training(
    held: Held, sites: tuple[Site, Site], reference: bytes
) -> None:
    def kill() -> None:
        (victim,) = [u for site in sites for u in site.user_endpoints if held.pid in pids_below(u)]
        victim.kill()

    result = held.train(kill, "server_configs.control_configs.lost_after_seconds=4")
    assert result.outcome is Outcome.FINISHED, result.error
    assert "which ran the call, has been silent" in (result.run_dir / "server.log").read_text()
    assert model_bits(result) == reference


def test_the_result_connection_drops_in_mid_training(held: Held, sandbox: Sandbox, reference: bytes) -> None:
    result = held.train(sandbox.faults.drop_amqp)
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference


def test_results_are_polled_where_amqp_is_refused(
    federation: SmallFederation, sites: tuple[Site, Site], sandbox: Sandbox, reference: bytes
) -> None:
    sandbox.faults.refuse_amqp(["clients", "clients-443"])
    try:
        result = train(at_sites(federation, *sites))
    finally:
        sandbox.faults.accept_amqp()
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference
    assert "polled" in (result.run_dir / "server.log").read_text()


def pids_below(process: psutil.Process) -> set[int]:
    return {child.pid for child in process.children(recursive=True)}
