"""`appfl-gc doctor` and the look at endpoints before the first task, against a real service and a real agent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.main import cli
from appfl_gc.control.globus_compute.identity import identity_from
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.protocol.errors import DeliveryError, EndpointError, ErrorClass, UsageError
from appfl_gc.runner.events import ClientChanged, EndpointsChecked
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import Site, at_sites, running, wait_for
from tests.runner.conftest import Heard, train
from tests.small_federation import SmallFederation

FUNCTION = "11111111-2222-4333-8444-555555555555"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, environment: None, sandbox: Sandbox) -> Iterator[Site]:
    site = Site("one", tmp_path_factory.mktemp("site"))
    with running(site):
        wait_for(
            lambda: any(
                one["id"] == site.endpoint_id and one["online"] for one in sandbox.state()["endpoints"]
            )
        )
        yield site


@pytest.fixture
def theirs(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> str:
    """An endpoint of another identity, whose id and secret are in THEIRS_CLIENT_ID and THEIRS_CLIENT_SECRET."""
    other = sandbox.add_identity("other")
    monkeypatch.setenv("THEIRS_CLIENT_ID", other.client_id)
    monkeypatch.setenv("THEIRS_CLIENT_SECRET", other.client_secret)
    return registered("theirs", "THEIRS")


def registered(name: str, credentials: str | None = None, **more: Any) -> str:
    """The UUID of an endpoint that is known to the service and has no agent."""
    client = ComputeService(identity_from(credentials)).sdk_client()
    metadata = {"endpoint_version": "3.9.0", "python_version": "3.10.4"}
    answer = client.register_endpoint(name, str(uuid.uuid4()), metadata=metadata, **more)
    return str(answer["endpoint_id"])


def doctor(federation: SmallFederation) -> tuple[int, dict[tuple[str, str], dict[str, str]]]:
    """Exit status, and the rows by the client of an endpoint (or the subject) and the check."""
    server, clients = federation.write()
    files = ["--server_config", str(server), "--client_config", str(clients)]
    result = CliRunner().invoke(cli, ["doctor", "--skip-jobs", "--format", "json", *files])
    document = json.loads(result.stdout)
    assert document["exit_code"] == result.exit_code
    rows = {}
    for row in document["rows"]:
        subject = row["subject"].partition(":")[0].removeprefix("Endpoint of ")
        rows[subject, row["check"]] = row
    return result.exit_code, rows


def test_all_is_well_with_an_endpoint_that_runs(federation: SmallFederation, site: Site) -> None:
    at_sites(federation, site).client[0]["user_endpoint_config"] = {"max_workers_per_node": 1}
    status, rows = doctor(federation)
    assert status == 0, rows
    assert {row["state"] for row in rows.values()} == {"ok"}
    assert "owned by this identity" in rows["Client1", "status"]["finding"]
    assert "fits the endpoint's schema" in rows["Client1", "config of Client1"]["finding"]
    assert "4." in rows["Client1", "agent"]["finding"]
    assert "renewed" in rows["Login of Client1", "remaining life"]["finding"]
    assert "AMQP" in rows["Globus Compute", "results"]["finding"]


def test_each_thing_that_is_wrong_has_its_row_and_a_fix(
    federation: SmallFederation, site: Site, theirs: str
) -> None:
    restricted = registered("restricted", allowed_functions=[FUNCTION])
    federation.clients = 6
    federation.client = {
        0: {"endpoint_id": site.endpoint_id, "user_endpoint_config": {"max_workers_per_node": "two"}},
        1: {"endpoint_id": restricted},
        2: {"endpoint_id": theirs},
        3: {"endpoint_id": str(uuid.uuid4())},
        4: {"endpoint_id": theirs, "credentials": "THEIRS"},
        5: {"endpoint_id": theirs, "credentials": "NOBODYS"},
    }
    status, rows = doctor(federation)
    assert status == ExitCode.CONFIGURATION
    failures = {key: row for key, row in rows.items() if row["state"] == "fail"}
    assert set(failures) == {
        ("Client1", "config of Client1"),
        ("Client2", "status"),
        ("Client2", "function"),
        ("Client2", "agent"),
        ("Client3", "status"),
        ("Client4", "status"),
        ("Client5", "status"),
        ("Client5", "agent"),
        ("Login of Client6", "login"),
    }
    assert all(row["fix"] for row in failures.values())
    line = rows["Client1", "config of Client1"]["finding"]
    assert line.startswith(f"{federation.directory / 'clients.yaml'}:") and "max_workers_per_node" in line
    assert "Offline" in rows["Client2", "status"]["finding"]
    assert FUNCTION in rows["Client2", "function"]["finding"]
    assert "3.9.0" in rows["Client2", "agent"]["finding"]
    assert "ENDPOINT_ACCESS_FORBIDDEN" in rows["Client3", "status"]["finding"]
    assert "ENDPOINT_NOT_FOUND" in rows["Client4", "status"]["finding"]
    assert "Offline, owned by this identity" in rows["Client5", "status"]["finding"]
    assert "NOBODYS_CLIENT_ID" in rows["Login of Client6", "login"]["finding"]


def test_an_endpoint_that_is_not_ours_is_an_access_failure(federation: SmallFederation, theirs: str) -> None:
    federation.clients = 1
    federation.client = {0: {"endpoint_id": theirs}}
    assert doctor(federation)[0] == ExitCode.ACCESS


def test_with_amqp_refused_results_are_polled(
    federation: SmallFederation, site: Site, sandbox: Sandbox
) -> None:
    at_sites(federation, site)
    sandbox.faults.refuse_amqp(["clients"])
    try:
        status, rows = doctor(federation)
        federation.server["control_configs"] = {"results": "push"}
        pushed, _ = doctor(federation)
    finally:
        sandbox.faults.clear()
    assert (status, rows["Globus Compute", "results"]["state"]) == (0, "warn")
    assert "polled over HTTPS" in rows["Globus Compute", "results"]["finding"]
    assert pushed == ExitCode.INFRASTRUCTURE


def test_no_job_is_sent(federation: SmallFederation, site: Site, sandbox: Sandbox) -> None:
    before = len(sandbox.state()["tasks"])
    doctor(at_sites(federation, site))
    assert len(sandbox.state()["tasks"]) == before


# The same look before the first task of a run


def test_a_run_says_which_endpoint_is_offline_and_sends_nothing(
    federation: SmallFederation, site: Site
) -> None:
    stopped = registered("stopped")
    federation.client = {0: {"endpoint_id": site.endpoint_id}, 1: {"endpoint_id": stopped}}
    federation.server["control_configs"] = {"endpoint_wait_seconds": 1}
    heard = Heard()
    error = failure_of(federation, heard)
    assert error[0] is ErrorClass.SERVICE
    assert f"Client Client2: endpoint stopped ({stopped}) is offline" in error[1]
    assert "Client1" not in error[1]
    rows = heard.of(EndpointsChecked)[0].rows  # type: ignore[attr-defined]
    assert [row.state.value for row in rows] == ["online", "offline"]
    assert not heard.of(ClientChanged)


def test_a_run_does_not_wait_for_an_endpoint_that_is_not_ours(
    federation: SmallFederation, theirs: str
) -> None:
    federation.clients = 1
    federation.client = {0: {"endpoint_id": theirs}}
    error_class, message = failure_of(federation, Heard())
    assert error_class is ErrorClass.ENDPOINT
    assert theirs in message and "refuses the Globus application" in message


def test_a_run_names_the_line_that_the_endpoint_would_refuse(federation: SmallFederation, site: Site) -> None:
    at_sites(federation, site).client[0]["user_endpoint_config"] = {"max_workers": 1}
    error_class, message = failure_of(federation, Heard())
    assert error_class is ErrorClass.USER
    assert f"{federation.directory / 'clients.yaml'}:" in message
    assert "knows no `max_workers`" in message


def failure_of(federation: SmallFederation, heard: Heard) -> tuple[ErrorClass, str]:
    """Class and message of the error that a run ends with, returned or raised."""
    try:
        result = train(federation, heard=heard)
    except (DeliveryError, EndpointError, UsageError) as error:
        return error.error_class, error.message
    assert result.error is not None
    return result.error.error_class, result.error.message
