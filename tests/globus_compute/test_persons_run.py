"""A person's runs: without a login they wait for one; no secret of theirs gets anywhere; others are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.control.globus_compute.identity.user_login import UserLogin
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import Site, at_sites, holding, running, wait_for
from tests.globus_compute.terminal import on_terminal
from tests.small_federation import METRIC, SmallFederation

APPFL_GC = [sys.executable, "-m", "appfl_gc.cli.main"]
DEADLINE = 120


@pytest.fixture(scope="module")
def site(sandbox: Sandbox, environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An endpoint that a person started with their own login, which is also the login of the runs."""
    site = Site("mine", tmp_path_factory.mktemp("person"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
            patch.delenv(name, raising=False)
        for name, value in sandbox.login_environment.items():
            patch.setenv(name, value)
        patch.setenv("GLOBUS_COMPUTE_USER_DIR", str(site.directory))
        log_in(sandbox)
        with running(
            site, sandbox=sandbox
        ):  # online: it has asked who its person is, and needs no token any more
            yield site


def log_in(sandbox: Sandbox) -> None:
    done = on_terminal([*APPFL_GC, "login"], sandbox.log_in)
    assert done.returncode == 0 and done.asked, done.output


def run(federation: SmallFederation, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    server, clients = federation.write()
    words = ["run", "--plain", "--debug", "--server_config", str(server), "--client_config", str(clients)]
    return subprocess.run(
        [*APPFL_GC, *words, *options],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def stored_tokens() -> dict[str, list[str]]:
    """Access and refresh token of each resource server."""
    storage = UserLogin.of_environment().place.open()
    stored = storage.get_token_data_by_resource_server()
    storage.close()
    return {server: [data.access_token, data.refresh_token] for server, data in stored.items()}


def connection_passwords(sandbox: Sandbox) -> list[str]:
    """Of the result queue and of the proxy."""
    service = ComputeService(UserLogin.of_environment())
    queue = urlsplit(service.result_queue().url).password
    service.close()
    proxy = urlsplit(sandbox.environment["HTTP_PROXY"]).password
    assert queue and proxy
    return [queue, proxy]


def assert_nowhere(secrets: list[str], output: str, directory: Path) -> None:
    assert secrets and not [secret for secret in secrets if secret in output]
    for path in directory.rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret.encode() in path.read_bytes()], path


def test_a_run_waits_for_a_login_and_goes_on(
    sandbox: Sandbox, site: Site, federation: SmallFederation, tmp_path: Path
) -> None:
    federation.metric = holding(METRIC, tmp_path)
    server, clients = at_sites(federation, site).write()
    sandbox.faults.forget_tokens(refresh=True)
    log = tmp_path / "output"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*APPFL_GC, "run", "--plain", "--server_config", str(server), "--client_config", str(clients)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )

    def wait_until_it_asks(times: int) -> None:
        wait_for(lambda: process.poll() is not None or log.read_text().count("appfl-gc login") >= times)
        assert process.poll() is None, log.read_text()

    try:
        wait_until_it_asks(1)
        log_in(sandbox)
        wait_for(lambda: (tmp_path / "held").exists() or process.poll() is not None)
        told = log.read_text().count("appfl-gc login")
        sandbox.faults.forget_tokens(refresh=True)
        (tmp_path / "go").touch()
        wait_until_it_asks(told + 1)
        log_in(sandbox)
        assert process.wait(DEADLINE) == 0, log.read_text()
    finally:
        (tmp_path / "go").touch()
        process.kill()
        process.wait()
    text = log.read_text()
    assert "Traceback" not in text and "Authorization Code" not in text
    secrets = [token for tokens in stored_tokens().values() for token in tokens]
    assert_nowhere([*secrets, *connection_passwords(sandbox)], text, federation.directory)


def test_a_run_with_tokens_of_files_and_variables(
    sandbox: Sandbox, site: Site, federation: SmallFederation, tmp_path: Path
) -> None:
    tokens = stored_tokens()
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(tokens["funcx_service"][0])
    options = ["--compute_token", str(token), "--openid_token", "OPENID"]
    empty = str(tmp_path / "empty")  # so that the login can't be what it used
    done = run(
        at_sites(federation, site),
        *options,
        OPENID=tokens["auth.globus.org"][0],
        GLOBUS_COMPUTE_USER_DIR=empty,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    secrets = [token for both in tokens.values() for token in both]
    secrets += connection_passwords(sandbox)
    assert_nowhere(secrets, done.stdout + done.stderr, federation.directory)


def test_an_application_that_is_refused_is_named_and_its_secret_is_not(
    sandbox: Sandbox, site: Site, federation: SmallFederation
) -> None:
    other = sandbox.add_identity("stranger")
    at_sites(federation, site).client[0]["credentials"] = "key.json"
    federation.write()
    key = federation.directory / "key.json"  # beside the YAML files
    key.touch(mode=0o600)
    key.write_text(json.dumps({"client_id": other.client_id, "client_secret": other.client_secret}))
    done = run(federation)
    assert done.returncode == ExitCode.ACCESS, done.stdout + done.stderr
    for words in (other.client_id, str(key), site.endpoint_id, "Client1"):
        assert words in done.stderr
    key.unlink()
    assert_nowhere([other.client_secret], done.stdout + done.stderr, federation.directory)
