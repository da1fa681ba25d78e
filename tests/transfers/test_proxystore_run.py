"""Runs whose models travel by ProxyStore's connectors, and a federation in which every client has another store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.protocol.errors import TransferError
from appfl_gc.runner.events import ClientTrained, Outcome, RunEvent
from tests import proxystore_bed
from tests.fault_proxy import FaultProxy
from tests.proxystore_bed import Bed
from tests.redis_server import RedisServer
from tests.runner.conftest import Heard, model_bits, train
from tests.s3_server import S3Server
from tests.small_federation import SmallFederation
from tests.transfers.conftest import BUCKET, NOTHING_INLINE, Stored, s3_configs


def by(connector: str, **configs: Any) -> dict[str, Any]:
    return {"enable_proxystore": True, "connector_type": connector, "connector_configs": configs}


@pytest.fixture
def stored(federation: SmallFederation) -> Stored:
    return Stored(federation, {})


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if why := proxystore_bed.why_not():
        pytest.skip(why)
    bed = Bed(tmp_path_factory.mktemp("bed")).start()
    yield bed
    bed.close()


def test_redis_has_the_same_bits_and_what_others_keep_there_stays(
    stored: Stored, redis_server: RedisServer, by_files: bytes
) -> None:
    with redis_server.client() as client:
        client.set("somebody else's", "keep")
    stored.configure(proxystore_configs=by("RedisConnector", **redis_server.configs))
    result = train(stored.federation)
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == by_files
    assert redis_server.keys() == {"somebody else's"}


def test_a_shared_directory_has_the_same_bits_and_is_left_empty(
    stored: Stored, tmp_path: Path, by_files: bytes
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "keep").write_text("keep")
    stored.configure(proxystore_configs=by("FileConnector", store_dir=str(shared)))
    result = train(stored.federation)
    assert model_bits(result) == by_files
    assert [path.name for path in shared.iterdir()] == ["keep"]


def test_endpoints_have_the_same_bits(stored: Stored, bed: Bed, by_files: bytes) -> None:
    def of(home: Path) -> dict[str, Any]:
        return by("EndpointConnector", endpoints=bed.endpoints, proxystore_dir=str(home))

    stored.configure(proxystore_configs=of(bed.b.home))
    stored.federation.server["comm_configs"] = {"proxystore_configs": of(bed.a.home)}
    with bed.inside():
        result = train(stored.federation)
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == by_files


def test_every_client_may_have_another_store(
    federation: SmallFederation,
    s3_server: S3Server,
    proxy: FaultProxy,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    federation.clients = 3
    reference = SmallFederation(tmp_path / "reference", clients=3)
    federation.server["control_configs"] = {**NOTHING_INLINE, "inline_limit_bytes": 10_000}
    federation.model = reference.model = federation.model.replace("width=16", "width=400")
    federation.client[0] = {"comm_configs": {"s3_configs": s3_configs(s3_server, proxy.url)}}
    federation.client[1] = {
        "comm_configs": {"proxystore_configs": by("RedisConnector", **redis_server.configs)}
    }
    result = train(federation)
    assert result.outcome is Outcome.FINISHED, result.error
    assert model_bits(result) == model_bits(train(reference))
    journal = (result.run_dir / "journal.jsonl").read_text()
    for scheme in ("s3", "proxystore", "file"):
        assert f'"scheme":"{scheme}"' in journal
    assert s3_server.uploads(BUCKET) == []


@pytest.mark.chaos
def test_a_store_that_dies_in_a_run_costs_only_its_clients(
    federation: SmallFederation, tmp_path: Path
) -> None:
    own = RedisServer.start(tmp_path / "redis")
    federation.server["control_configs"] = NOTHING_INLINE
    federation.server["fault_tolerance_configs"] = {"retries": 0, "quorum": 1}
    federation.client[0] = {"comm_configs": {"proxystore_configs": by("RedisConnector", **own.configs)}}

    def kill(event: RunEvent) -> None:
        if isinstance(event, ClientTrained) and event.round == 1 and event.client == "Client1":
            own.kill()

    try:
        result = train(federation, heard=Heard(kill))
    finally:
        own.kill()
    assert result.outcome is Outcome.PARTIAL, result.error
    assert result.rounds == 2
    assert list(result.set_aside) == ["Client1"]
    assert "Redis" in result.set_aside["Client1"].message


def test_a_store_that_does_not_answer_ends_the_run_before_it_begins(stored: Stored, tmp_path: Path) -> None:
    server = RedisServer.start(tmp_path / "redis")
    server.kill()
    stored.configure(proxystore_configs=by("RedisConnector", **server.configs))
    with pytest.raises(TransferError, match="Redis"):
        train(stored.federation)
