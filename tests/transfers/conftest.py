"""Whole runs over real stores, and one by files to compare them with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.runner.journal import read_journal
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.redis_server import RedisServer
from tests.runner.conftest import model_bits, train
from tests.s3_server import S3Server
from tests.small_federation import SmallFederation

BUCKET = "models"
NOTHING_INLINE = {"slots": 1, "inline_limit_bytes": 0}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No policy of the machine's user reaches a test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("APPFL_GC_SITE_POLICY", raising=False)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server.start(tmp_path_factory.mktemp("s3"))
    server.bucket(BUCKET)
    yield server
    server.stop()


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3_server.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer.start(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@dataclass
class Stored:
    """A small federation whose models all travel by a store."""

    federation: SmallFederation
    comm: dict[str, Any]

    def configure(self, **comm: Any) -> None:
        """Give every client these ``comm_configs`` besides."""
        self.comm = {**self.comm, **comm}
        self.federation.server["control_configs"] = NOTHING_INLINE
        for number in range(self.federation.clients):
            self.federation.client[number] = {"comm_configs": self.comm}


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    return SmallFederation(tmp_path / "project")


@pytest.fixture
def s3(federation: SmallFederation, s3_server: S3Server, proxy: FaultProxy) -> Stored:
    """Everything by S3, through a proxy that can break it."""
    stored = Stored(federation, {})
    stored.configure(s3_configs=s3_configs(s3_server, proxy.url))
    return stored


def s3_configs(server: S3Server, url: str) -> dict[str, Any]:
    return {
        "enable_s3": True,
        "s3_bucket": BUCKET,
        "s3_creds_file": str(server.credentials),
        "endpoint_url": url,
    }


@pytest.fixture(scope="session")
def by_files(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The final model of the same federation when nothing travels by a store."""
    return model_bits(train(SmallFederation(tmp_path_factory.mktemp("by-files"))))


def calls_of(run_dir: Path) -> list[tuple[str, int, int, str]]:
    """Client, round, attempt and channel of every call after the greeting, in order."""
    records = read_journal(run_dir / "journal.jsonl")
    return [
        (r.fields["client"], r.fields["round"], r.fields["attempt"], r.fields["channel"])
        for r in records
        if r.kind in ("dispatch", "retry") and r.fields["round"]
    ]
