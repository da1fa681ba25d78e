from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.config import Severity
from tests.config.conftest import Project

UUID = "4f53131b-e59d-465f-9153-efe9b02d9f3e"


@pytest.fixture
def remote(project: Project) -> Project:
    project.change_clients("endpoint_id: local", f"endpoint_id: {UUID}", 2)
    return project


def test_every_endpoint_becomes_local(remote: Project) -> None:
    federation = remote.load(local=True)
    assert [client.endpoint_id for client in federation.clients] == ["local", "local"]
    assert federation.warnings == ()


def test_stores_are_switched_off_with_a_note(remote: Project) -> None:
    remote.change_server(
        "server_configs:\n",
        "  comm_configs: {s3_configs: {enable_s3: True, s3_bucket: models}}\nserver_configs:\n"
        "  comm_configs: {proxystore_configs: {enable_proxystore: True, connector_type: FileConnector, "
        "connector_configs: {store_dir: /tmp}}}\n",
    )
    federation = remote.load(local=True)
    assert {(found.severity, found.line) for found in federation.warnings} == {
        (Severity.NOTE, 18),
        (Severity.NOTE, 20),
    }
    for comm in (federation.server_configs.comm_configs, federation.clients[0].comm_configs):
        assert comm.s3_configs.enable_s3 is False
        assert comm.proxystore_configs.enable_proxystore is False


@pytest.mark.parametrize(("name", "changed"), [("Client2", [False, True]), ("get_data", [True, True])])
def test_data_is_replaced_by_client_or_by_function(
    remote: Project, tmp_path: Path, name: str, changed: list[bool]
) -> None:
    small = tmp_path / "small.py"
    small.write_text("def few(num_clients=2): ...\n")
    federation = remote.load(local=True, local_data={name: f"{small}:few"})
    for client, replaced in zip(federation.clients, changed, strict=True):
        assert (client.sources["dataset"].name == "few") is replaced
        assert ("client_id" in client.data_configs.dataset_kwargs) is not replaced
    assert any("not given client_id" in found.message for found in federation.warnings)


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("Client3", "small.py:few", "called `Client3`"),
        ("Client1", "small.py", "not of the form"),
        ("Client1", "small.py:fe", "does not define `fe`"),
        ("Client1", "nothing.py:few", "no file nothing.py"),
    ],
)
def test_mistakes(remote: Project, name: str, target: str, words: str) -> None:
    remote.write("small.py", "def few(client_id): ...\n")
    found = remote.only(local=True, local_data={name: target})
    assert found.severity is Severity.ERROR
    assert found.file == "--local-data"
    assert words in found.message


def test_data_is_replaced_in_a_rehearsal_only(project: Project) -> None:
    assert "--local" in project.only(local_data={"Client1": "x.py:f"}).message
