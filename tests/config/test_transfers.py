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
            14,
            "LocalConnector is not used: it keeps objects in one process",
        ),
        (
            "    proxystore_configs:\n      enable_proxystore: True\n      connector_type: RedisConnector\n"
            "      connector_configs: {hostname: localhost}\n",
            14,
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
