"""Two clients at two endpoints: the result, and what is refused before anything is trained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.protocol.errors import AppflGcError, ErrorClass, UsageError
from appfl_gc.runner.events import ClientChanged, ClientState, ClientTrained, Outcome
from appfl_gc.runner.journal import read_journal
from appfl_gc.runner.replay import first_difference, recorded_steps
from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import Site, at_sites, running
from tests.runner.conftest import Heard, model_bits, train
from tests.runner.test_failures import dataset_failing_for
from tests.runner.test_schedules import SCHEDULES, scheduler_of
from tests.s3_server import SECRET_KEY, S3Server
from tests.small_federation import SmallFederation
from tests.transfers.conftest import BUCKET, s3_configs


@pytest.fixture(scope="module")
def other(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, environment: None) -> Iterator[Site]:
    """A site of another identity, whose credentials are in ``OTHER_CLIENT_ID`` and ``OTHER_CLIENT_SECRET``."""
    who = sandbox.add_identity("other")
    own = {"GLOBUS_COMPUTE_CLIENT_ID": who.client_id, "GLOBUS_COMPUTE_CLIENT_SECRET": who.client_secret}
    site = Site("other", tmp_path_factory.mktemp("other"), own)
    with pytest.MonkeyPatch.context() as patch, running(site, sandbox=sandbox):
        patch.setenv("OTHER_CLIENT_ID", who.client_id)
        patch.setenv("OTHER_CLIENT_SECRET", who.client_secret)
        yield site


def test_two_endpoints_end_with_the_bits_of_this_machine(
    federation: SmallFederation, sites: tuple[Site, Site], reference: bytes
) -> None:
    heard = Heard()
    result = train(at_sites(federation, *sites), heard=heard)
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference

    states = {(event.client, event.state) for event in heard.of(ClientChanged)}  # type: ignore[attr-defined]
    assert {("Client1", ClientState.ARRIVED), ("Client2", ClientState.ARRIVED)} <= states
    groups = [
        record.fields["task_group"]
        for record in read_journal(result.run_dir / "journal.jsonl")
        if record.kind == "dispatch"
    ]
    assert len(groups) == 4
    assert len(set(groups)) == 2, "a task group for each round"
    assert all(len(site.user_endpoints) == 1 for site in sites)


def test_without_rounds_each_endpoint_gets_work_when_it_has_delivered(
    federation: SmallFederation, sites: tuple[Site, Site]
) -> None:
    federation.server = SCHEDULES["compass"] | {"num_global_epochs": 6}
    heard = Heard()
    result = train(at_sites(federation, *sites), heard=heard)
    assert result.outcome is Outcome.FINISHED, result.error
    trained = heard.of(ClientTrained)
    assert len(trained) == 6
    assert {event.client for event in trained} == {"Client1", "Client2"}  # type: ignore[attr-defined]
    # Half a second on the way is no slowness of the client: none is kept to the fewest steps by it.
    assert max(event.steps for event in trained if event.round > 1) == 20  # type: ignore[attr-defined]
    steps = recorded_steps(result.run_dir / "journal.jsonl")
    assert first_difference(steps, scheduler_of(federation)) is None


def test_what_user_code_raises_names_client_and_file(
    federation: SmallFederation, sites: tuple[Site, Site]
) -> None:
    federation.dataset = dataset_failing_for(1, "open('/no/such/data')")
    result = train(at_sites(federation, *sites))
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert result.error is not None
    assert result.error.error_class is ErrorClass.USER
    assert re.match(
        r"Client Client2: The dataset load in \S*dataset\.py failed with .*FileNotFoundError in dataset\.py line 7",
        result.error.message,
    )


def test_a_user_endpoint_config_reaches_the_template(
    federation: SmallFederation, sites: tuple[Site, Site]
) -> None:
    federation.rounds = 1
    federation.client[0] = {"user_endpoint_config": {"max_workers_per_node": 2}}
    before = len(sites[0].user_endpoints)
    result = train(at_sites(federation, sites[0]))
    assert result.outcome is Outcome.FINISHED, result.error
    assert len(sites[0].user_endpoints) == before + 1


@pytest.mark.parametrize(("name", "value"), [("max_workers_per_node", "many"), ("no_such_knob", 1)])
def test_a_user_endpoint_config_that_the_schema_refuses(
    federation: SmallFederation, sites: tuple[Site, Site], name: str, value: object
) -> None:
    federation.client[0] = {"user_endpoint_config": {name: value}}
    with pytest.raises(AppflGcError) as refused:
        train(at_sites(federation, sites[0]))
    message = str(refused.value)
    assert name in message
    assert "Client1" in message
    assert sites[0].endpoint_id in message
    assert re.search(r"clients\.yaml:\d+", message)


def test_an_endpoint_of_somebody_else_is_refused(federation: SmallFederation, other: Site) -> None:
    result = train(at_sites(federation, other))
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert result.error is not None
    assert result.error.error_class is ErrorClass.ENDPOINT
    assert "Client1" in result.error.message
    assert other.endpoint_id in result.error.message
    assert os.environ["GLOBUS_COMPUTE_CLIENT_ID"] in str(result.error), "which identity is in use"


def test_two_identities_in_one_run(
    federation: SmallFederation, sites: tuple[Site, Site], other: Site, reference: bytes
) -> None:
    federation.client[1] = {"credentials": "OTHER"}
    result = train(at_sites(federation, sites[0], other))
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == reference
    secrets = [other.environment["GLOBUS_COMPUTE_CLIENT_SECRET"].encode()]
    assert not [path for path in files_of(result.run_dir) if secrets[0] in path.read_bytes()]


def test_a_call_over_the_limit_is_refused_before_it_is_sent(
    federation: SmallFederation, sites: tuple[Site, Site], sandbox: Sandbox
) -> None:
    federation.dataset += "# " + "x" * 400_000 + "\n"
    before = submissions(sandbox)
    result = train(at_sites(federation, *sites), "server_configs.control_configs.request_limit_bytes=300000")
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert result.error is not None
    assert result.error.error_class is ErrorClass.PROTOCOL, "trying again would not help"
    for client, site in zip(("Client1", "Client2"), sites, strict=True):
        assert client in result.error.message
        assert site.endpoint_id in result.error.message
    assert "300,000" in str(result.error)
    assert submissions(sandbox) == before


def test_a_model_over_the_limit_is_refused_before_anything_is_sent(
    federation: SmallFederation, sites: tuple[Site, Site], sandbox: Sandbox
) -> None:
    before = submissions(sandbox)
    with pytest.raises(UsageError, match=r"The model has [\d,]+ bytes.*client Client1 has no store"):
        train(at_sites(federation, *sites), "server_configs.control_configs.inline_limit_bytes=1000")
    assert submissions(sandbox) == before


def test_a_large_model_travels_by_s3_to_sites_that_have_no_account_there(
    federation: SmallFederation,
    sites: tuple[Site, Site],
    sandbox: Sandbox,
    reference: bytes,
    tmp_path: Path,
) -> None:
    server = S3Server.start(tmp_path / "s3")
    try:
        federation.server["control_configs"] = {"inline_limit_bytes": 0}
        s3 = s3_configs(server, server.url)
        federation.client = {n: {"comm_configs": {"s3_configs": s3}} for n in range(2)}
        server.bucket(BUCKET)
        result = train(at_sites(federation, *sites))
        assert result.outcome is Outcome.FINISHED, result.error
        assert model_bits(result) == reference
        assert (server.keys(BUCKET), server.uploads(BUCKET)) == ([], [])
    finally:
        server.stop()
    assert not any(SECRET_KEY.encode() in path.read_bytes() for path in files_of(result.run_dir))


def submissions(sandbox: Sandbox) -> int:
    """How many requests with tasks the service got so far."""
    return sum(path.endswith("/submit") for _, _, path, _ in sandbox.state()["requests"])


def files_of(directory: Path) -> Iterator[Path]:
    return (path for path in directory.rglob("*") if path.is_file())
