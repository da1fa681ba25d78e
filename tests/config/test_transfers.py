"""``comm_configs``: what its keys say together, told with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.config.diagnostic import Severity
from tests.config.conftest import Project

ANCHOR = '    metric_name: "accuracy"\n'


def configure(project: Project, text: str) -> None:
    project.change_server(ANCHOR, f"{ANCHOR}  comm_configs:\n{text}")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("    s3_configs: {enable_s3: True}\n", 14, "`enable_s3: True` needs `s3_bucket`"),
        (
            "    s3_configs:\n      enable_s3: True\n      s3_bucket: models\n      s3_creds_file: ./creds.csv\n",
            17,
            "There is no file ./creds.csv",
        ),
        (
            "    s3_configs: {enable_s3: True, s3_bucket: models}\n"
            "    proxystore_configs: {enable_proxystore: True, connector_type: FileConnector,"
            " connector_configs: {store_dir: /tmp}}\n",
            13,
            "Both `s3_configs` and `proxystore_configs`",
        ),
        (
            "    compressor_configs:\n      enable_compression: True\n      lossy_compressor: SZ4Compressor\n"
            "      error_bound: 0.1\n",
            16,
            "SZ4Compressor",
        ),
        (
            "    compressor_configs:\n      enable_compression: True\n      lossy_compressor: SZ3Compressor\n"
            "      error_bounding_mode: PW_REL\n      error_bound: 0.1\n",
            17,
            "PW_REL is not supported yet",
        ),
        (
            "    proxystore_configs:\n      enable_proxystore: True\n      connector_type: LocalConnector\n",
            16,
            "LocalConnector is not used: it keeps objects in one process",
        ),
        (
            "    proxystore_configs:\n      enable_proxystore: True\n      connector_type: RedisConnector\n"
            "      connector_configs: {hostname: localhost}\n",
            17,
            "port",
        ),
    ],
    ids=["no bucket", "no credentials", "two stores", "compressor", "mode", "this process", "no port"],
)
def test_what_can_not_work_is_refused(project: Project, text: str, line: int, said: str) -> None:
    configure(project, text)
    found = project.only()
    assert found.severity is Severity.ERROR
    assert said in found.message
    assert found.line == line


def test_the_same_is_silent_while_it_is_switched_off(project: Project) -> None:
    configure(
        project,
        "    s3_configs: {enable_s3: False, s3_creds_file: ./creds.csv}\n"
        "    compressor_configs: {enable_compression: False, lossy_compressor: SZ4Compressor}\n"
        "    proxystore_configs: {enable_proxystore: False, connector_type: LocalConnector}\n",
    )
    assert project.found() == []


def test_a_credentials_file_is_looked_for_beside_the_yaml_file(project: Project) -> None:
    configure(
        project,
        "    s3_configs: {enable_s3: True, s3_bucket: models, s3_creds_file: ./creds/one.csv}\n",
    )
    file = project.directory / "creds" / "one.csv"
    file.parent.mkdir(parents=True)
    file.write_text("us-east-1,key,secret\n")
    file.chmod(0o600)
    for comm in (project.load().clients[0].comm_configs, project.load().server_configs.comm_configs):
        assert comm.s3_configs.s3_creds_file is not None
        assert Path(comm.s3_configs.s3_creds_file) == file


def test_a_compressor_that_is_read_as_another_is_told_once(project: Project) -> None:
    configure(
        project,
        "    compressor_configs: {enable_compression: True, lossy_compressor: SZ2Compressor, error_bound: 0.1}\n",
    )
    found = project.only()
    assert (found.severity, found.line) == (Severity.WARNING, 14)
    assert "read as SZ3Compressor" in found.message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("s3_bucket", "s3://models/", "no name of an S3 bucket"),
        ("s3_bucket", "My_Models", "no name of an S3 bucket"),
        ("endpoint_url", "127.0.0.1:9000", "Expected the address of an S3 service"),
        ("endpoint_url", "http://user:password@s3.example.org", "Expected the address of an S3 service"),
        ("endpoint_url", "https://s3.example.org/models", "Expected the address of an S3 service"),
    ],
)
def test_a_bucket_or_an_address_that_can_not_be_one(
    project: Project, key: str, value: str, said: str
) -> None:
    values = {"enable_s3": True, "s3_bucket": "models", key: value}
    lines = "".join(f"      {name}: {text}\n" for name, text in values.items())
    configure(project, f"    s3_configs:\n{lines}")
    found = project.only()
    assert said in found.message
    assert found.key.endswith(key)
    assert "password@" not in str(found)


def test_a_credentials_file_that_others_can_read(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "creds.csv"
    file.write_text("us-east-1,key,secret\n")
    file.chmod(0o644)
    configure(project, f"    s3_configs: {{enable_s3: True, s3_bucket: models, s3_creds_file: {file}}}\n")
    assert "can be used by others" in project.only().message


def test_encryption_without_a_store_of_others_has_no_effect_and_says_so(project: Project) -> None:
    configure(project, "    encryption_configs: {enable_encryption: True}\n")
    found = project.only()
    assert (found.severity, found.line) == (Severity.WARNING, 14)
    assert "no effect" in found.message


@pytest.mark.parametrize(("mode", "bound"), [("REL", 5), ("ABS_OR_REL", 1), ("PSNR", 0.001)])
def test_a_bound_that_would_leave_nothing_of_the_model(project: Project, mode: str, bound: float) -> None:
    configure(
        project,
        "    compressor_configs:\n      enable_compression: True\n      lossy_compressor: SZ3Compressor\n"
        f"      error_bounding_mode: {mode}\n      error_bound: {bound}\n",
    )
    found = project.only()
    assert found.severity is Severity.ERROR
    assert found.key.endswith("error_bound")


REDIS = "{hostname: localhost, port: 6379}"


def by(connector: str, configs: str, indent: str = "    ") -> str:
    return (
        f"{indent}proxystore_configs:\n{indent}  enable_proxystore: True\n{indent}  connector_type: {connector}\n"
        f"{indent}  connector_configs:\n{indent}    {configs}\n"
    )


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        (by("LocalConnector", "{}"), 16, "connector_type"),
        (
            by("RedisConnector", "hostname: localhost\n        password: s3cret\n        port: 1"),
            19,
            "connector_configs.password",
        ),
        (by("FileConnector", "store_dir: ''"), 18, "connector_configs.store_dir"),
        (by("EndpointConnector", "endpoints:\n        - abc"), 19, "connector_configs.endpoints[0]"),
        (by("RedisConnector", "hostname: localhost"), 17, "connector_configs.port"),
    ],
    ids=["refused", "password", "empty", "no UUID", "missing"],
)
def test_an_error_about_a_connector_is_where_it_was_written(
    project: Project, text: str, line: int, key: str
) -> None:
    configure(project, text)
    found = project.only()
    assert (found.severity, found.line) == (Severity.ERROR, line)
    assert found.key == f"client_configs.comm_configs.proxystore_configs.{key}"
    assert "s3cret" not in str(found)


def test_an_argument_without_effect_is_told_where_it_was_written(project: Project) -> None:
    configure(project, by("FileConnector", "store_dir: /tmp\n        clear: True"))
    found = project.only()
    assert (found.severity, found.line) == (Severity.WARNING, 19)


def test_the_examples_uuids_are_a_note(project: Project) -> None:
    configure(project, by("EndpointConnector", "endpoints: [11111111-1111-1111-1111-111111111111]"))
    found = project.only(strict=True)
    assert (found.severity, found.line) == (Severity.NOTE, 18)
    assert "proxystore-endpoint list" in found.hint


def connectors(project: Project, server: str, client: str) -> None:
    """The server has one connector, and the first client another."""
    project.server += "  comm_configs:\n" + by(server, REDIS if server[0] == "R" else "store_dir: /tmp")
    project.change_clients(
        '    client_id: "Client1"\n',
        '    client_id: "Client1"\n    comm_configs:\n'
        + by(client, REDIS if client[0] == "R" else "store_dir: /tmp", "      "),
    )


def test_another_connector_at_the_server_than_at_a_client_is_refused(project: Project) -> None:
    connectors(project, "RedisConnector", "FileConnector")
    found = project.only()
    assert (found.severity, Path(found.file).name, found.line) == (Severity.ERROR, "clients.yaml", 7)
    assert found.key == "clients[0].comm_configs.proxystore_configs.connector_type"
    assert "Client Client1 has FileConnector, the server RedisConnector (" in found.message
    assert "server.yaml:" in found.message


def test_the_same_connector_on_both_sides_is_right(project: Project) -> None:
    connectors(project, "FileConnector", "FileConnector")
    assert project.found() == []


def test_connectors_that_are_switched_off_need_not_agree(project: Project) -> None:
    connectors(project, "RedisConnector", "FileConnector")
    assert {found.severity for found in project.found(local=True)} == {Severity.NOTE}
    project.server = project.server.replace("enable_proxystore: True", "enable_proxystore: False")
    assert project.found() == []
