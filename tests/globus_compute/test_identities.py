"""Identities and the REST service as the real SDK sees them: registering, two owners, a proxy on the way."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.main import cli
from appfl_gc.control.globus_compute.identity import default_identity, identity_from
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.control.message import entry_source
from appfl_gc.protocol.errors import DeliveryError, EndpointError, LoginError
from appfl_gc.sandbox.files import Credentials
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.small_proxy import small_proxy

PASSWORD = "pr0xy-password"


@pytest.fixture
def service() -> Iterator[ComputeService]:
    service = ComputeService(default_identity())
    yield service
    service.close()


@pytest.fixture(scope="module")
def other(sandbox: Sandbox) -> Credentials:
    return sandbox.add_identity("other")


@pytest.fixture
def others_file(other: Credentials, tmp_path: Path) -> Path:
    """The other application as a private file."""
    path = tmp_path / "other.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"client_id": other.client_id, "client_secret": other.client_secret}))
    return path


def command(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_whoami_says_which_application_it_is(sandbox: Sandbox, other: Credentials, others_file: Path) -> None:
    mine = command("whoami")
    assert mine.exit_code == 0, mine.stderr
    assert sandbox.credentials.identity in mine.stdout
    theirs = json.loads(command("whoami", "--format", "json", "--credentials", str(others_file)).stdout)
    assert theirs["identity"] == other.identity and theirs["renews"]
    everything = mine.output + json.dumps(theirs)
    assert sandbox.credentials.client_secret not in everything and other.client_secret not in everything


def test_a_wrong_secret_ends_with_the_exit_code_of_access(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path))  # nothing is stored there
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "wrong-secret")
    result = command("whoami")
    assert result.exit_code == ExitCode.ACCESS
    assert sandbox.credentials.client_id in result.stderr and "wrong-secret" not in result.output


def test_function_register_prints_what_owner_and_server_need(service: ComputeService) -> None:
    result = command("function", "register")
    assert result.exit_code == 0, result.stderr
    function_id = result.stdout.splitlines()[0]
    assert str(uuid.UUID(function_id)) == function_id
    assert f"allowed_functions:\n  - {function_id}\n" in result.stdout
    assert f"function_id: {function_id}\n" in result.stdout
    assert result.stdout.endswith(entry_source())
    assert service.function(function_id)["function_code"] == entry_source()

    fields = json.loads(command("function", "register", "--public", "--format", "json").stdout)
    assert fields["source"] == entry_source()
    assert fields["sha256"] == hashlib.sha256(entry_source().encode()).hexdigest()


def test_public_and_group_exclude_each_other() -> None:
    result = command("function", "register", "--public", "--group", str(uuid.uuid4()))
    assert result.exit_code == ExitCode.CONFIGURATION and "exclude each other" in result.stderr


def test_what_one_identity_owns_the_other_does_not_see(
    service: ComputeService, other: Credentials, others_file: Path
) -> None:
    theirs = ComputeService(identity_from(str(others_file)))
    function_id = service.register("def mine(): pass", "mine")
    with pytest.raises(DeliveryError):
        theirs.function(function_id)
    assert service.function(function_id)["function_name"] == "mine"
    assert theirs.userinfo().identity_id == other.identity != service.userinfo().identity_id
    theirs.close()


def test_an_application_keeps_its_tokens_between_processes(sandbox: Sandbox, service: ComputeService) -> None:
    def asked() -> int:
        return sum(path == "/v2/oauth2/token" for _, _, path, _ in sandbox.state()["requests"])

    service.endpoints()
    before = asked()
    assert before > 0
    again = ComputeService(default_identity())
    again.endpoints()
    again.close()
    assert asked() == before


def test_a_service_that_has_forgotten_the_token_gives_a_new_one(
    sandbox: Sandbox, service: ComputeService
) -> None:
    service.endpoints()
    sandbox.faults.forget_tokens()
    assert service.endpoints() is not None
    assert service.userinfo().identity_id == sandbox.credentials.identity


def test_an_unknown_endpoint_names_the_identity_that_asks(sandbox: Sandbox, service: ComputeService) -> None:
    endpoint_id = str(uuid.uuid4())
    for ask in (service.endpoint, service.endpoint_status, service.allowed_functions, service.stop_endpoint):
        with pytest.raises(EndpointError) as caught:
            ask(endpoint_id)
        assert endpoint_id in str(caught.value) and sandbox.credentials.client_id in str(caught.value)


def test_a_token_in_a_variable_submits_as_its_owner(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = default_identity()
    assert isinstance(identity, Application)
    storage = identity.place.open()
    with identity.app() as app:
        for server in ("funcx_service", "auth.globus.org"):
            app.get_authorizer(server).ensure_valid_token()
    tokens = storage.get_token_data_by_resource_server()
    storage.close()
    monkeypatch.setenv("COMPUTE", tokens["funcx_service"].access_token)
    monkeypatch.setenv("OPENID", tokens["auth.globus.org"].access_token)
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        monkeypatch.delenv(name)
    service = ComputeService(default_identity("COMPUTE", "OPENID"))
    assert service.userinfo().identity_id == sandbox.credentials.identity
    assert service.register("def f(): pass", "f")
    monkeypatch.setenv("COMPUTE", "outdated")
    service.close()
    with pytest.raises(LoginError, match="COMPUTE"):
        service.endpoints()
    service.close()


class TestProxy:
    @pytest.fixture(autouse=True)
    def empty_storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "user"))

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
    def test_every_request_passes_through_it(
        self, name: str, sandbox: Sandbox, service: ComputeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with small_proxy(sandbox.environment["HTTP_PROXY"], PASSWORD) as proxy:
            for each in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.delenv(each)
            monkeypatch.setenv(name, proxy.url)
            function_id = service.register("def f(): pass", "f")
            client = service.sdk_client()
            assert client.get_function(function_id)["function_name"] == "f"
            client.app.close()
            passed = [line.removeprefix("http://localhost:5000") for line in proxy.passed]
        assert any("/v3/functions" in line for line in passed), passed
        assert any(f"/v2/functions/{function_id}" in line for line in passed), passed

    def test_its_trouble_is_told_without_its_password(
        self, sandbox: Sandbox, service: ComputeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with small_proxy(sandbox.environment["HTTP_PROXY"], PASSWORD) as proxy:
            place = proxy.url.rpartition("@")[2]
            wrong = f"http://user:{PASSWORD}-not@{place}"
            for each in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.setenv(each, wrong)
            with pytest.raises(DeliveryError) as refused:
                service.versions()
        impatient = ComputeService(default_identity(), retries=0)
        with pytest.raises(DeliveryError) as gone:
            impatient.versions()
        impatient.close()
        for caught in (refused, gone):
            assert PASSWORD not in str(caught.value)
            assert place in str(caught.value), str(caught.value)
