"""`appfl-gc login`, `whoami` and `logout` on a terminal, and the agent's own: they are one login."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from globus_sdk.token_storage import TokenStorageData

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.control.globus_compute.identity import default_identity
from appfl_gc.control.globus_compute.identity.user_login import UserLogin
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.protocol.errors import LoginError
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.terminal import DEADLINE, on_terminal

APPFL_GC = [sys.executable, "-m", "appfl_gc.cli.main"]
AGENT = [str(Path(sys.executable).parent / "globus-compute-endpoint")]


@pytest.fixture(autouse=True)
def person(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in, and there is no application in the environment."""
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in sandbox.login_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "user"))


def without_terminal(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `appfl-gc` with nothing to read, as under nohup."""
    return subprocess.run(
        [*APPFL_GC, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE
    )


@pytest.fixture
def service() -> Iterator[ComputeService]:
    service = ComputeService(default_identity(), retries=1)
    yield service
    service.close()


def test_login_whoami_logout_are_those_of_the_agent_too(sandbox: Sandbox, service: ComputeService) -> None:
    assert service.identity.login_required()
    done = on_terminal([*APPFL_GC, "login"], sandbox.log_in)
    assert done.returncode == 0, done.output
    assert not service.identity.login_required()
    identity_id = service.userinfo().identity_id
    assert f"({identity_id}" in done.output.splitlines()[-1]
    assert identity_id in service.identity.describe()

    theirs = on_terminal([*AGENT, "whoami"])
    assert theirs.returncode == 0 and identity_id[:8] in theirs.output
    assert not on_terminal([*AGENT, "login"]).asked
    again = on_terminal([*APPFL_GC, "login"])
    assert not again.asked and "Logged in already" in again.output

    who = without_terminal("whoami")
    assert who.returncode == 0 and identity_id in who.stdout and "renews itself" in who.stdout

    storage = UserLogin.of_environment().place.open()
    tokens = [data.access_token for data in storage.get_token_data_by_resource_server().values()]
    assert not any(token in done.output + who.stdout + again.output for token in tokens)
    assert without_terminal("logout").returncode == 0
    assert storage.get_token_data_by_resource_server() == {}
    storage.close()
    with pytest.raises(LoginError):
        service.endpoints()
    assert without_terminal("whoami").returncode == ExitCode.ACCESS


def test_the_agents_login_is_ours(sandbox: Sandbox, service: ComputeService) -> None:
    assert on_terminal([*AGENT, "login"], sandbox.log_in).returncode == 0
    assert service.endpoints() == []
    done = on_terminal([*APPFL_GC, "login"])
    assert not done.asked and "Logged in already" in done.output


def test_a_login_that_has_ended_is_asked_for_without_force(sandbox: Sandbox, service: ComputeService) -> None:
    assert on_terminal([*APPFL_GC, "login"], sandbox.log_in).returncode == 0
    assert service.endpoints() == []
    sandbox.faults.forget_tokens(refresh=True)
    with pytest.raises(LoginError, match="has ended"):
        service.endpoints()
    assert service.identity.login_required()
    done = on_terminal([*APPFL_GC, "login"], sandbox.log_in)
    assert done.asked and done.returncode == 0, done.output
    assert service.endpoints() == []


def test_a_token_that_has_ended_is_renewed_without_anybody(sandbox: Sandbox, service: ComputeService) -> None:
    assert on_terminal([*APPFL_GC, "login"], sandbox.log_in).returncode == 0
    sandbox.faults.forget_tokens(refresh=False)
    assert service.endpoints() == []
    assert not service.identity.login_required()


@pytest.mark.parametrize("words", [("whoami",), ("login",), ("function", "register")])
def test_without_a_terminal_nothing_waits_for_input(words: tuple[str, ...]) -> None:
    done = without_terminal(*words)
    assert done.returncode == ExitCode.ACCESS
    assert "appfl-gc login" in done.stderr and "Traceback" not in done.stderr
    assert ("Authorization Code" in done.stdout) == (words == ("login",))


def test_a_wrong_code_and_no_code(sandbox: Sandbox) -> None:
    for typed in ("wrong-code", "\x04"):
        done = on_terminal([*APPFL_GC, "login"], lambda _, typed=typed: typed)  # type: ignore[misc]
        assert done.returncode == ExitCode.ACCESS, done.output
        assert "Traceback" not in done.output and "Error: " in done.output
    assert UserLogin.of_environment().login_required()


def test_another_account_does_not_replace_the_first_silently(sandbox: Sandbox) -> None:
    storage = UserLogin.of_environment().place.open()
    somebody = TokenStorageData("funcx_service", "somebody-else", "x", "a", "r", 0, "Bearer")
    storage.store_token_data_by_resource_server({"funcx_service": somebody})
    done = on_terminal([*APPFL_GC, "login", "--force"], sandbox.log_in)
    assert done.returncode == ExitCode.ACCESS
    assert "another account" in done.output and "appfl-gc logout" in done.output
    assert storage.get_token_data("funcx_service") is not None
    storage.close()


def test_options_reach_the_address(sandbox: Sandbox) -> None:
    options = ["--domain", "lab.example", "--mfa", "--policy", "p-1", "--identity", "i-1"]
    seen = ""

    def log_in(address: str) -> str:
        nonlocal seen
        seen = address
        return sandbox.log_in(address)

    assert on_terminal([*APPFL_GC, "login", *options], log_in).returncode == 0
    for part in ("single_domain=lab.example", "session_required_mfa=", "policies=p-1", "identities=i-1"):
        assert part in seen, seen
