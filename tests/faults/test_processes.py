"""SIGKILL of every process of a site and of its service, in each phase of a call, over real agents."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from appfl_gc.hpc.endpoint import agent
from appfl_gc.hpc.endpoint.options import COMPUTE_ENGINE
from appfl_gc.runner.api import RunResult
from appfl_gc.runner.events import Outcome, RoundFinished, RunEvent
from appfl_gc.runner.journal import read_journal
from appfl_gc.sandbox.sandbox import Sandbox
from tests.faults.table import record
from tests.globus_compute.conftest import environment, federation, reference, sandbox  # noqa: F401  fixtures
from tests.globus_compute.sites import Site, at_sites, holding, running, wait_for
from tests.globus_compute.test_hostile_results import unfinished
from tests.runner.conftest import Heard, model_bits, train
from tests.small_federation import DATASET, METRIC, SmallFederation

pytestmark = pytest.mark.chaos
LOST_AFTER = "server_configs.control_configs.lost_after_seconds=20"


class Phase(enum.Enum):
    """Where a call is when something is killed."""

    WAITING = "before its worker has it"
    TRAINING = "while it trains"
    RETURNING = "when it has trained and its reply is on its way"


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, environment: None) -> Iterator[Site]:  # noqa: F811
    """One site with one worker below a manager, as batch jobs have."""
    site = Site("site", tmp_path_factory.mktemp("site"), engine=COMPUTE_ENGINE)
    with running(site, sandbox=sandbox):
        yield site


@dataclass
class Bed:
    """A run of two clients at ``site``, of whose calls one can be stopped in each phase."""

    sandbox: Sandbox
    site: Site
    federation: SmallFederation
    directory: Path

    def run(self, phase: Phase, break_: Callable[[], object]) -> RunResult:
        """Train, and break something when a call is in ``phase``."""
        at_sites(self.federation, self.site, self.site)
        self.federation.metric = holding(METRIC, self.directory)
        self.federation.server["fault_tolerance_configs"] = {"retries": 6, "quorum": 2}
        between_rounds = threading.Event()
        if phase is Phase.WAITING:
            self._go.touch()

        def hear(event: RunEvent) -> None:
            if phase is Phase.WAITING and isinstance(event, RoundFinished) and event.round == 1:
                self.sandbox.faults.refuse_amqp(["agents"])
                between_rounds.set()

        def disturb() -> None:
            if phase is Phase.WAITING:
                wait_for(between_rounds.is_set)
                wait_for(lambda: unfinished(self.sandbox, self.site))
            else:
                wait_for(lambda: self._held.exists() and self._held.read_text())
            if phase is Phase.RETURNING:
                before = self._answers()
                self.sandbox.faults.refuse_amqp(["agents"])
                self._go.touch()
                wait_for(lambda: self._answers() > before)
            break_()

        def disturb_and_go_on() -> None:
            try:
                disturb()
            except BaseException as error:  # noqa: BLE001  the run must not wait for a test that failed
                failed.append(error)
            finally:
                self._go.touch()
                self.sandbox.faults.accept_amqp(["agents"])

        failed: list[BaseException] = []
        watcher = threading.Thread(target=disturb_and_go_on)
        watcher.start()
        result = train(self.federation, LOST_AFTER, heard=Heard(hear))
        watcher.join()
        if failed:
            raise failed[0]
        return result

    @property
    def _held(self) -> Path:
        return self.directory / "held"

    @property
    def _go(self) -> Path:
        return self.directory / "go"

    def _answers(self) -> int:
        return sum(1 for path in self.site.directory.rglob("outbox/*/*/*") if path.suffix != ".new")

    @property
    def worker(self) -> psutil.Process:
        """The process that runs the site's calls."""
        return psutil.Process(int(self._held.read_text()))

    # What is broken

    def kill_worker(self) -> None:
        self.worker.kill()

    def kill_manager(self) -> None:
        manager = self.worker.parent()
        assert manager is not None and "process_worker_pool" in " ".join(manager.cmdline())
        manager.kill()

    def kill_user_endpoint(self) -> None:
        (user_endpoint,) = self.site.user_endpoints
        user_endpoint.kill()

    def kill_agent_and_start_it(self) -> None:
        pid = agent.status(self.site.name, self.site.directory).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.sandbox.faults.accept_amqp(["agents"])  # without it none starts
        self.site.start_again()

    def kill_broker(self) -> None:
        before = self.sandbox.pids["broker"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: self.sandbox.pids["broker"] != before)


@pytest.fixture
def bed(
    sandbox: Sandbox,  # noqa: F811
    site: Site,
    federation: SmallFederation,  # noqa: F811
    tmp_path: Path,
) -> Iterator[Bed]:
    yield Bed(sandbox, site, federation, tmp_path)
    sandbox.faults.clear()
    with contextlib.suppress(psutil.Error):
        site.stop()
    assert not site.processes
    site.start()
    ours = site.endpoint_id
    wait_for(lambda: any(one["online"] for one in sandbox.state()["endpoints"] if one["id"] == ours))


FAULTS: dict[str, Callable[[Bed], None]] = {
    "a busy worker": Bed.kill_worker,
    "the manager of a node": Bed.kill_manager,
    "the user endpoint": Bed.kill_user_endpoint,
    "the endpoint, which is then started again": Bed.kill_agent_and_start_it,
    "the service's broker, which comes back": Bed.kill_broker,
}


# An idle worker is another matter: see the last test.
POINTS = [
    (what, phase) for what in FAULTS for phase in Phase if phase is Phase.TRAINING or what != "a busy worker"
]


@pytest.mark.parametrize(("what", "phase"), POINTS)
def test_a_run_ends_with_the_same_bits_whatever_is_killed(
    bed: Bed,
    what: str,
    phase: Phase,
    reference: bytes,  # noqa: F811
) -> None:
    result = bed.run(phase, lambda: FAULTS[what](bed))
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference
    again = sent_again(result)
    lost = "nothing" if not again else f"{again} call{'s' * (again > 1)} sent again"
    record(f"SIGKILL of {what}, of a call {phase.value}", 1, "finished, same bits", lost)


def sent_again(result: RunResult) -> int:
    """How many calls had to be sent once more."""
    kinds = Counter(one.kind for one in read_journal(result.run_dir / "journal.jsonl"))
    return kinds["retry"]


def test_an_idle_worker_that_is_killed_holds_up_its_node_until_the_deadline(
    bed: Bed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # The next worker waits for ever for a lock of parsl's that the dead one held. Nobody tells the service.
    other = Site("other", tmp_path_factory.mktemp("other"))
    name = f"{bed.directory}/worker-of-"
    note = f"    open({name!r} + str(client_id), 'w').write(str(__import__('os').getpid()))\n"
    head, body = DATASET.split("samples=64):\n")
    bed.federation.dataset = f"{head}samples=64):\n{note}{body}"
    bed.federation.server["fault_tolerance_configs"] = {"deadline_seconds": 15, "quorum": 1}

    def kill(event: RunEvent) -> None:
        if isinstance(event, RoundFinished) and event.round == 1:
            os.kill(int((bed.directory / "worker-of-0").read_text()), signal.SIGKILL)

    with running(other, sandbox=bed.sandbox):
        result = train(at_sites(bed.federation, bed.site, other), heard=Heard(kill))
    assert result.outcome is Outcome.PARTIAL, result.error
    assert result.rounds == 2
    log = (result.run_dir / "server.log").read_text()
    assert "Client Client1 takes no part now" in log
    record(
        "SIGKILL of an idle worker, whose node then takes calls and runs none",
        1,
        "finished without that client, by deadline_seconds",
        "the client's updates from then on",
    )
