"""A run whose login is missing waits, says so, and goes on when somebody has logged in elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import Site, at_sites, holding, running, wait_for
from tests.globus_compute.terminal import on_terminal
from tests.small_federation import METRIC, SmallFederation

APPFL_GC = [sys.executable, "-m", "appfl_gc.cli.main"]


@pytest.fixture
def persons_site(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An endpoint that a person started with their own login, which is the run's login too."""
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in sandbox.login_environment.items():
        monkeypatch.setenv(name, value)
    site = Site("mine", tmp_path / "user")
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(site.directory))
    log_in(sandbox)
    with running(site):
        yield site


def log_in(sandbox: Sandbox) -> None:
    done = on_terminal([*APPFL_GC, "login"], sandbox.log_in)
    assert done.returncode == 0 and done.asked, done.output


def test_a_run_waits_for_a_login_and_goes_on(
    sandbox: Sandbox, persons_site: Site, federation: SmallFederation, tmp_path: Path
) -> None:
    federation.metric = holding(METRIC, tmp_path)
    server, clients = at_sites(federation, persons_site).write()
    sandbox.faults.forget_tokens(refresh=True)
    log = tmp_path / "output"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*APPFL_GC, "run", "--plain", "--server_config", str(server), "--client_config", str(clients)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:

        def waits(times: int) -> bool:
            return process.poll() is not None or log.read_text().count("appfl-gc login") >= times

        wait_for(lambda: waits(1), 30)
        assert process.poll() is None, log.read_text()
        log_in(sandbox)
        wait_for(lambda: (tmp_path / "held").exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        told = log.read_text().count("appfl-gc login")
        sandbox.faults.forget_tokens(refresh=True)
        (tmp_path / "go").touch()
        wait_for(lambda: waits(told + 1), 30)
        assert process.poll() is None, log.read_text()
        log_in(sandbox)
        assert process.wait(90) == 0, log.read_text()
    finally:
        (tmp_path / "go").touch()
        process.kill()
        process.wait()
    text = log.read_text()
    assert "Traceback" not in text and "Authorization Code" not in text
    assert os.environ["HTTP_PROXY"] not in text
