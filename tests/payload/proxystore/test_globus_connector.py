"""Payloads by Globus Transfer, whose service is played by copies between two directories: it needs an account."""

from __future__ import annotations

import shutil
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import globus_sdk
import pytest

from appfl_gc.config.connectors import GlobusArguments
from appfl_gc.payload.proxystore import globus_parts
from appfl_gc.payload.proxystore.globus_parts import GlobusParts
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.errors import LoginError, TransferError, UsageError
from tests.payload.proxystore.samples import Progress, Sample, fetched

SAMPLE = Sample.of(3_000_001)
A, B = str(uuid.uuid4()), str(uuid.uuid4())


@dataclass
class Transfers:
    """What Globus Transfer does, as far as ``globus_sdk.TransferClient`` shows it: after ``looks`` looks it is done."""

    roots: dict[str, Path]
    looks: int = 2
    outcome: dict[str, Any] = field(default_factory=lambda: {"status": "SUCCEEDED"})
    tasks: dict[str, list[Any]] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)

    def submit_transfer(self, data: globus_sdk.TransferData) -> dict[str, Any]:
        if self.failures:
            raise self.failures.pop()
        assert data["notify_on_succeeded"] is False
        task = str(uuid.uuid4())
        self.tasks[task] = [self.looks, data]
        return {"task_id": task}

    def get_task(self, task: str) -> dict[str, Any]:
        self.tasks[task][0] -= 1
        left, data = self.tasks[task]
        if left > 0:
            return {"status": "ACTIVE", "bytes_transferred": 1000 * (self.looks - left), "nice_status": "OK"}
        if self.outcome["status"] == "SUCCEEDED":
            for item in data["DATA"]:
                shutil.copy(
                    self.path(data["source_endpoint"], item["source_path"]),
                    self.path(data["destination_endpoint"], item["destination_path"]),
                )
        return self.outcome

    def cancel_task(self, task: str) -> None:
        self.cancelled.append(task)

    def submit_delete(self, data: globus_sdk.DeleteData) -> None:
        assert data["ignore_missing"] is True and data["recursive"] is globus_sdk.MISSING
        for item in data["DATA"]:
            self.path(data["endpoint"], item["path"]).unlink(missing_ok=True)

    def path(self, collection: str, path: str) -> Path:
        assert path.startswith("/share/")
        return self.roots[str(collection)] / path.removeprefix("/share/")


@pytest.fixture
def service(tmp_path: Path) -> Transfers:
    roots = {A: tmp_path / "a", B: tmp_path / "b"}
    for root in roots.values():
        root.mkdir()
    return Transfers(roots)


def arguments(service: Transfers, **more: object) -> GlobusArguments:
    endpoints = {
        name: {"endpoint_path": "/share", "local_path": str(root), "host_regex": rf"host-{root.name}\d"}
        for name, root in service.roots.items()
    }
    return GlobusArguments.model_validate({"endpoints": endpoints, "polling_interval": 0.01, **more})


def store_on(
    service: Transfers, host: str, stop: threading.Event | None = None, **more: object
) -> ProxyStoreStore:
    stop = stop or threading.Event()
    parts = GlobusParts(arguments(service, **more), stop, client=service, host=host)
    return ProxyStoreStore(parts, parts.part_bytes, stop, terms={}, patience=Patience(tries=1))


def test_a_put_returns_when_the_other_collection_has_the_file(service: Transfers) -> None:
    here, there = store_on(service, "host-a1"), store_on(service, "host-b2")
    sent = Progress()
    ref = here.put(SAMPLE, sent)
    assert 1000 in sent.seen and sent.last == SAMPLE.size
    assert ref.checksum == SAMPLE.checksum
    assert fetched(there, ref) == SAMPLE.data
    assert fetched(here, ref) == SAMPLE.data
    here.evict(ref)
    assert not any((*service.roots[A].iterdir(), *service.roots[B].iterdir()))


def test_the_files_are_those_of_proxystore_s_connector(
    service: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxystore.connectors import globus

    class Done:
        def get_task(self, task: str) -> None: ...
        def task_wait(self, task: str, **_: object) -> bool:
            return True

    monkeypatch.setattr(globus, "get_transfer_client", lambda **_: Done())
    monkeypatch.setattr(globus, "hostname", lambda: "host-b1")
    ref = store_on(service, "host-a1").put(Sample(b"0123456789"))
    configs = arguments(service).model_dump(mode="json", include={"endpoints"})
    connector = globus.GlobusConnector(**configs, clear=False)
    assert connector.get(globus.GlobusKey(f"{ref.locator}-0", ())) == b"0123456789"


def test_a_machine_of_no_collection_says_so(service: Transfers) -> None:
    with pytest.raises(UsageError, match="its name 'elsewhere' matches no `host_regex`"):
        store_on(service, "elsewhere")


def test_a_failed_transfer_says_why_and_leaves_nothing(service: Transfers) -> None:
    service.outcome = {"status": "FAILED", "fatal_error": {"description": "Permission\x1b denied."}}
    with pytest.raises(TransferError, match=f"to the collection {B} failed: Permission. denied"):
        store_on(service, "host-a1").put(SAMPLE)
    assert not any(service.roots[A].iterdir())


def test_a_transfer_that_takes_too_long_is_cancelled(service: Transfers) -> None:
    service.looks = 10**9
    with pytest.raises(TransferError, match="took longer than") as caught:
        store_on(service, "host-a1", timeout=0.1).put(SAMPLE)
    assert "Raise `timeout`" in caught.value.hint
    assert service.cancelled == list(service.tasks)


def test_stopping_cancels_the_transfer(service: Transfers) -> None:
    service.looks, stop = 10**9, threading.Event()
    with pytest.raises(TransferError, match="interrupted"):
        store_on(service, "host-a1", stop).put(SAMPLE, lambda count: stop.set())
    assert service.cancelled == list(service.tasks)


def error(status: int, code: str, message: str) -> globus_sdk.TransferAPIError:
    import requests

    response = requests.Response()
    response.status_code, response.headers["Content-Type"] = status, "application/json"
    response._content = f'{{"code": "{code}", "message": "{message}"}}'.encode()
    response.request = requests.Request("POST", "https://transfer.example").prepare()
    return globus_sdk.TransferAPIError(response)


def test_refusals_of_the_service_are_explained(service: Transfers) -> None:
    service.failures = [error(403, "ConsentRequired", "Missing required data_access consent")]
    with pytest.raises(TransferError, match=r"status 403.*Missing required data_access consent") as caught:
        store_on(service, "host-a1").put(SAMPLE)
    assert f"proxystore-globus-auth login --collection {B}" in caught.value.hint


def test_a_busy_service_is_asked_again(service: Transfers, monkeypatch: pytest.MonkeyPatch) -> None:
    service.failures = [error(503, "ServiceUnavailable", "later")]
    monkeypatch.setattr(globus_parts, "PATIENCE", Patience(first=0.01))
    here = store_on(service, "host-a1")
    assert fetched(here, here.put(SAMPLE)) == SAMPLE.data


def test_without_a_login_nobody_is_asked_for_one(
    service: Transfers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROXYSTORE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked at the terminal"))
    monkeypatch.setattr("click.prompt", lambda *_, **__: pytest.fail("asked at the terminal"))
    parts = GlobusParts(arguments(service), threading.Event(), host="host-a1")
    store = ProxyStoreStore(parts, parts.part_bytes, threading.Event())
    with pytest.raises(LoginError) as caught:
        store.put(SAMPLE)
    assert f"proxystore-globus-auth login --collection {A} --collection {B}" in caught.value.hint
