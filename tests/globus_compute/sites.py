"""A site: a real agent on this machine, over a sandbox."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from appfl_gc.hpc.endpoint import agent, processes
from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.sandbox.sandbox import Sandbox
from tests.small_federation import SmallFederation

DEADLINE = 120
HEARTBEAT = 5  # the agent's smallest


@dataclass
class Site:
    """An endpoint with its files in ``directory``; ``environment`` is laid over this process's."""

    name: str
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    engine: str = POOL_ENGINE
    endpoint_id: str = ""

    def configure(self) -> None:
        options = EndpointOptions(
            engine=self.engine, directory=self.directory / "files", heartbeat_seconds=HEARTBEAT
        )
        configure(self.name, options, self.directory)

    def start(self) -> None:
        started = agent.start(self.name, self.directory, {**os.environ, **self.environment})
        assert started.endpoint_id is not None
        self.endpoint_id = started.endpoint_id

    def start_again(self) -> None:
        """Start after a stop, with calls that wait already.

        The agent then forks at once for its user endpoint, while others of its threads write to its log. Now and
        then the child inherits a lock that nobody releases, and hangs; only another start helps.
        """
        for _ in range(3):
            self.start()
            if not self._hangs():
                return
            self.stop()
        raise AssertionError("three user endpoints in a row did not begin")

    def _hangs(self) -> bool:
        """Whether a process that is to become a user endpoint, which leads a session, has not begun for long."""
        begun = time.monotonic()
        while time.monotonic() < begun + 20:
            pid = agent.status(self.name, self.directory).pid
            with contextlib.suppress(psutil.Error, ProcessLookupError):  # a child has ended since
                leads = [os.getsid(child.pid) != pid for child in self.user_endpoints]
                if all(leads) and (leads or time.monotonic() > begun + 5):  # without a call there is none
                    return False
            time.sleep(0.1)
        return True

    def stop(self) -> None:
        agent.stop(self.name, self.directory)

    @property
    def processes(self) -> list[psutil.Process]:
        """All that the agent has started, and itself."""
        found = processes.processes_of(self.directory / self.name)
        return [process for process in found if processes.running(process)]

    @property
    def user_endpoints(self) -> list[psutil.Process]:
        """What runs tasks: one for each submitter and ``user_endpoint_config``."""
        running = agent.status(self.name, self.directory).pid
        children = [] if running is None else psutil.Process(running).children()
        return [child for child in children if processes.running(child)]


@contextlib.contextmanager
def running(*sites: Site, sandbox: Sandbox | None = None) -> Iterator[None]:
    """Agents of ``sites``, started and stopped side by side; nothing is left of them.

    With ``sandbox`` they are online there; a run would wait some seconds more than need be.
    """
    for site in sites:
        site.configure()
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Site.start, sites))
        if sandbox is not None:
            names = {site.endpoint_id for site in sites}
            wait_for(lambda: names <= {one["id"] for one in sandbox.state()["endpoints"] if one["online"]})
        yield
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Site.stop, sites))
        left = {site.name: site.processes for site in sites}
    assert not any(left.values()), left


def at_sites(federation: SmallFederation, *sites: Site) -> SmallFederation:
    """``federation`` with its clients at ``sites``, in order."""
    federation.clients = len(sites)
    for number, site in enumerate(sites):
        federation.client.setdefault(number, {})["endpoint_id"] = site.endpoint_id
    return federation


def holding(metric: str, directory: Path) -> str:
    """``metric`` that, once, writes its process id to ``held`` and waits for a file ``go``.

    Which of the clients comes first is held; it goes on when ``go`` is there.
    """
    return (
        "import os\nimport time\nfrom pathlib import Path\n\n\n"
        "def hold():\n"
        f"    held, go = Path({str(directory / 'held')!r}), Path({str(directory / 'go')!r})\n"
        "    try:\n"
        "        with held.open('x') as file:\n"
        "            file.write(str(os.getpid()))\n"
        "    except FileExistsError:\n"
        "        return\n"
        "    while not go.exists():\n"
        "        time.sleep(0.02)\n\n\n" + metric.replace("):\n", "):\n    hold()\n", 1)
    )


def wait_for(condition: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Return when ``condition`` holds."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the awaited event did not come")
        time.sleep(0.02)
