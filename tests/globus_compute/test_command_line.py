"""The commands as users type them: a rehearsal in a sandbox of its own, and leaving with a task in flight."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from appfl_gc.runner.journal import read_journal
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import DEADLINE, Site, at_sites, holding, running, wait_for
from tests.small_federation import METRIC, SmallFederation

ROOT = Path(__file__).parents[2]
APPFL_GC = [sys.executable, "-m", "appfl_gc.cli.main"]
LEAVING_SECONDS = 30


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, environment: None) -> Iterator[Site]:
    site = Site("one", tmp_path_factory.mktemp("site"))
    with running(site, sandbox=sandbox):
        yield site


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_does_not_wait_for_a_site(
    federation: SmallFederation, site: Site, tmp_path: Path, number: signal.Signals
) -> None:
    federation.metric = holding(METRIC, tmp_path)
    server, clients = at_sites(federation, site).write()
    process = subprocess.Popen(
        [*APPFL_GC, "run", "--plain", "--server_config", str(server), "--client_config", str(clients)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for(lambda: (tmp_path / "held").exists() or process.poll() is not None)
        start = time.monotonic()
        process.send_signal(number)
        output, _ = process.communicate(timeout=LEAVING_SECONDS)
    finally:
        process.kill()
        process.wait()
        (tmp_path / "go").touch()
    assert time.monotonic() - start < LEAVING_SECONDS
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "work on to the end of their task: Client1." in output  # its update travels in the message
    (journal,) = federation.directory.glob("output/*/journal.jsonl")
    assert "dispatch" in {record.kind for record in read_journal(journal)}


@pytest.mark.chaos
def test_the_example_trains_in_a_sandbox_of_its_own(tmp_path: Path) -> None:
    """The script's own files over real agents; afterwards no process is left."""
    run = [sys.executable, "examples/globus_compute/run.py", "--format", "json"]
    clients = "examples/resources/config_gc/mnist/clients_sandbox.yaml"
    options = [
        "--client_config",
        clients,
        "--set",
        f"server_configs.logging_output_dirname={tmp_path}/output",
        "--set",
        "server_configs.scheduler_kwargs.max_local_steps=10",
        "--set",
        "server_configs.scheduler_kwargs.min_local_steps=2",
    ]
    home = tmp_path / "home"
    home.mkdir()
    foreign = {name for name in os.environ if name.startswith(("GLOBUS_", "HTTP_PROXY", "http_proxy"))}
    environment = {name: value for name, value in os.environ.items() if name not in foreign}
    done = subprocess.run(
        [*APPFL_GC, "sandbox", "run", "--directory", str(tmp_path / "sandbox"), "--", *run, *options],
        cwd=ROOT,
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "run_finished"
    assert events[-1]["outcome"] == "finished"
    assert not processes_of(tmp_path)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Processes that know ``directory``, by their arguments or their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            known = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(directory) in text for text in known):
            found.append(process)
    return found
