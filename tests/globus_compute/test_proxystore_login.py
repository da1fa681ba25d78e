"""`appfl-gc login --proxystore` on a terminal: the login that ProxyStore's endpoints find."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.terminal import on_terminal

LOGIN = [sys.executable, "-m", "appfl_gc.cli.main", "login", "--proxystore"]
RELAY = "ebd5bbed-95e2-47cf-9c80-39e2064274bd"
COLLECTION = "8ad8a5b4-2c0b-4b0c-9f35-d3c4b1a7a001"


@pytest.fixture(autouse=True)
def person(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in."""
    for name, value in sandbox.login_environment.items():
        monkeypatch.setenv(name, value)
    for name in ("PROXYSTORE_GLOBUS_CLIENT_ID", "PROXYSTORE_GLOBUS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROXYSTORE_HOME", str(tmp_path / "proxystore"))


def test_an_endpoint_finds_the_login(sandbox: Sandbox) -> None:
    pytest.importorskip("quart", reason="needs proxystore[endpoints]")
    from proxystore.endpoint.serve import _get_auth_headers

    done = on_terminal(LOGIN, sandbox.log_in)
    assert done.returncode == 0, done.output
    assert "Logged in for ProxyStore" in done.output
    header = _get_auth_headers("globus")["Authorization"]
    assert header.startswith("Bearer ") and header[7:] not in done.output
    again = on_terminal(LOGIN)
    assert not again.asked and "already" in again.output
    assert on_terminal([*LOGIN, "--force"], sandbox.log_in).asked


def test_collections_are_asked_for(sandbox: Sandbox) -> None:
    asked: list[str] = []

    def refuse(address: str) -> str:
        asked.append(address)
        return "wrong-code"

    done = on_terminal([*LOGIN, "--collection", COLLECTION], refuse)
    assert done.returncode == ExitCode.ACCESS, done.output
    assert "Globus refused the login" in done.output and "Traceback" not in done.output
    (scopes,) = parse_qs(urlsplit(asked[0]).query)["scope"]
    assert f"{RELAY}/relay_all" in scopes and f"{COLLECTION}/data_access" in scopes
    assert on_terminal([*LOGIN, "--collection", "scratch"]).returncode == 2


def test_no_code(sandbox: Sandbox) -> None:
    done = on_terminal(LOGIN, lambda address: "\x04")
    assert done.returncode == ExitCode.ACCESS, done.output
    assert "nobody is logged in" in done.output and "Traceback" not in done.output
