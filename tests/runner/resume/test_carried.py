"""The plan of a resume says whether what calls in flight carry is still in their stores."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.config.connectors import FileArguments
from appfl_gc.payload.proxystore.file_parts import FileParts
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.s3.settings import S3Settings
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.protocol.wire import Json
from appfl_gc.runner.doctor.row import State, Subject
from appfl_gc.runner.resume.carried import carried_rows
from appfl_gc.runner.resume.past import PastRun, UnansweredCall
from appfl_gc.runner.run_directory import RunDirectory
from tests.s3_server import S3Server


class Model:
    """A global model."""

    codec, size = "safetensors-1", 100

    def chunks(self) -> Iterator[memoryview]:
        yield memoryview(bytes(100))


def past_run(directory: Path, places: dict[str, Json], references: dict[str, Ref]) -> PastRun:
    directory.mkdir()
    (directory / "journal.jsonl").touch()
    (directory / "stores.json").write_text(json.dumps(places))
    past = PastRun(RunDirectory(directory))
    for client, ref in references.items():
        at = {"scheme": ref.scheme, "locator": ref.locator, "size": ref.size}
        past.open[client] = UnansweredCall(UpdateId(client, 1), 0, 1, {"model_at": at})
    return past


def found(past: PastRun) -> dict[str, tuple[State, str]]:
    return {row.check: (row.state, row.finding) for row in carried_rows(Subject("Stores"), past)}


def check_one_goes(past: PastRun, store: S3Store | ProxyStoreStore, first: Ref) -> None:
    """What is there is there; what goes is told, by its client, and harms nothing."""
    assert found(past)["models"][0] is State.OK
    store.evict(first)
    state, words = found(past)["models"]
    assert state is State.WARN
    assert "the calls of A carry has gone" in words
    past.orderly = True  # its calls are sent again anyway
    assert found(past) == {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server.start(tmp_path_factory.mktemp("s3"))
    server.bucket("models")
    yield server
    server.stop()


def test_in_a_bucket(tmp_path: Path, server: S3Server) -> None:
    store = S3Store(S3Settings("models", server.url, None, server.credentials), "run", threading.Event())
    try:
        references = {client: store.put(Model()) for client in "AB"}  # type: ignore[arg-type]
        past = past_run(tmp_path / "run", {"s3": [store.where]}, references)
        assert "granted URLs" not in found(past)
        week_ago = time.time() - 8 * 24 * 3600
        os.utime(past.directory.journal, (week_ago, week_ago))
        assert "have expired" in found(past)["granted URLs"][1]
        check_one_goes(past, store, references["A"])
    finally:
        store.sweep()
        store.close()


def test_in_what_proxystore_connects_to(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    parts = FileParts(FileArguments(store_dir=str(shared)), threading.Event())
    store = ProxyStoreStore(parts, parts.part_bytes, threading.Event())
    references = {client: store.put(Model()) for client in "AB"}  # type: ignore[arg-type]
    configs: dict[str, Json] = {"store_dir": str(shared)}
    place: dict[str, Json] = {
        "connector_type": "FileConnector",
        "connector_configs": configs,
        "site_configs": configs,
    }
    check_one_goes(past_run(tmp_path / "run", {"proxystore": [place]}, references), store, references["A"])


def test_a_store_that_is_gone_is_told_and_models_in_messages_need_none(tmp_path: Path) -> None:
    reference = Ref("s3", "0" * 32, 100, "c", "safetensors-1")
    place: dict[str, Json] = {"bucket": "models", "prefix": "elsewhere/other/"}
    past = past_run(tmp_path / "run", {"s3": [place]}, {"A": reference})
    state, words = found(past)["models"]
    assert state is State.WARN
    assert "can't be told" in words
    past.open["A"] = UnansweredCall(UpdateId("A", 1), 0, 1, {})
    assert found(past) == {}
