"""`appfl-gc endpoint check --proxystore` on real endpoints, and endpoints whose workers use one of the login node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.main import cli
from tests.proxystore_bed import ADDRESS, Bed, why_not

UUID = "8ad8a5b4-2c0b-4b0c-9f35-d3c4b1a7a001"


def appfl_gc(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def check(*arguments: str) -> Result:
    return appfl_gc("endpoint", "check", "--proxystore", *arguments)


def configured(directory: Path, name: str = "ours", host: str = ADDRESS, port: int = 9) -> None:
    folder = directory / name
    folder.mkdir(parents=True)
    lines = [f'name = "{name}"', f'uuid = "{UUID}"', f"port = {port}", 'host_type = "static"']
    lines += [f'host = "{host}"'] if host else []
    (folder / "config.toml").write_text("\n".join(lines) + "\n")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "endpoints"))
    monkeypatch.setenv("PROXYSTORE_HOME", str(tmp_path / "proxystore"))
    monkeypatch.setattr("appfl_gc.hpc.endpoint.configure._NODE_LOCAL", ())
    return tmp_path / "proxystore"


@pytest.fixture(scope="module")
def whole_bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if reason := why_not():
        pytest.skip(reason)
    bed = Bed(tmp_path_factory.mktemp("bed"), largest=6_000_000, largest_b=5_000_000)
    try:
        yield bed.start()
    finally:
        bed.close()


@pytest.fixture
def bed(whole_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    monkeypatch.setenv("PROXYSTORE_HOME", str(whole_bed.a.home))
    with whole_bed.inside():
        yield whole_bed


def test_an_endpoint_and_the_way_to_another(bed: Bed) -> None:
    done = check("--remote", bed.b.uuid, "--megabytes", "5")
    assert done.exit_code == 0, done.output
    assert f"ProxyStore endpoint a ({bed.a.uuid}) at {ADDRESS}:9001" in done.stdout
    for where in ("own", bed.b.uuid):
        rows = [line.split() for line in done.stdout.splitlines() if line.strip().startswith(where)]
        tried = {row[1]: row for row in rows}
        assert {"exists", "put", "get"} <= set(tried)
        for what in ("put", "get"):
            assert tried[what][2:4] == ["5.0", "MB"] and tried[what][-1] == "MB/s"


def test_json_and_a_peer_that_is_not_there(bed: Bed) -> None:
    done = check("a", "--remote", UUID, "--megabytes", "1", "--format", "json")
    assert done.exit_code == 2
    said = json.loads(done.stdout)
    assert said["endpoint"]["uuid"] == bed.a.uuid and said["endpoint"]["largest"] == 6_000_000
    *fine, last = said["steps"]
    assert [step["what"] for step in fine] == ["reach", "exists", "put", "get"]
    assert all(step["error"] == "" for step in fine)
    assert fine[-1]["bytes_per_second"] > 0
    assert (last["where"], last["what"]) == (UUID, "exists") and "does not run" in last["error"]


def test_a_smaller_limit_at_the_other_end(bed: Bed) -> None:
    done = check("--remote", bed.b.uuid)
    assert done.exit_code == 2
    assert "own                                   put 6.0 MB" in done.stdout  # what ours takes, no more
    assert "did not take an object of 6,000,000 bytes" in done.stdout and "max_object_size" in done.stdout


def test_what_is_wrong_with_ours(home: Path) -> None:
    assert "No ProxyStore endpoint is configured" in check().output
    configured(home, host="127.0.0.1")
    done = check()
    assert done.exit_code == 2
    assert (
        "can't be reached at 127.0.0.1:9" in done.stdout and "proxystore-endpoint start ours" in done.stdout
    )
    assert "There is no ProxyStore endpoint theirs" in check("theirs").output
    configured(home, "second")
    assert "Several ProxyStore endpoints" in check().output
    for arguments in (("endpoint", "check"), ("endpoint", "check", "x", "--remote", UUID)):
        done = appfl_gc(*arguments)
        assert done.exit_code == 2 and " needs " in done.output


def test_workers_use_an_endpoint_of_the_login_node(home: Path, tmp_path: Path) -> None:
    configured(home)
    arguments = ("endpoint", "configure", "site", "--facility", "slurm", "--account", "abc", "--queue", "gpu")
    done = appfl_gc(*arguments, "--proxystore", "ours", "--env", "A=b")
    assert done.exit_code == 0, done.output
    template = (tmp_path / "endpoints" / "site" / "user_config_template.yaml.j2").read_text()
    assert f"{ADDRESS},localhost,127.0.0.1" in template
    assert f"export PROXYSTORE_HOME={home}" in template and "export A=b" in template
    checked = appfl_gc("endpoint", "check", "site")
    assert "can't be read" not in checked.output and "not YAML" not in checked.output


@pytest.mark.parametrize(
    ("host", "why"),
    [("127.0.0.1", "nodes of jobs can't reach"), ("localhost", "can't reach"), ("", "never started")],
)
def test_an_endpoint_that_workers_could_not_reach(home: Path, host: str, why: str) -> None:
    configured(home, host=host)
    done = appfl_gc(
        *("endpoint", "configure", "site", "--facility", "slurm", "--account", "abc", "--queue", "gpu"),
        *("--proxystore", "ours"),
    )
    assert done.exit_code == 2 and why in done.output


def test_a_home_that_only_this_node_sees(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appfl_gc.hpc.endpoint.configure._NODE_LOCAL", (str(home),))
    configured(home)
    done = appfl_gc("endpoint", "configure", "site", "--facility", "slurm", "--proxystore", "ours")
    assert done.exit_code == 2 and "on this node only" in done.output


def test_options_of_the_two_logins_do_not_mix() -> None:
    for arguments in (("--proxystore", "--mfa"), ("--collection", UUID)):
        done = appfl_gc("login", *arguments)
        assert done.exit_code == 2 and "`--proxystore`" in done.output


def test_an_application_needs_no_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXYSTORE_GLOBUS_CLIENT_ID", UUID)
    monkeypatch.setenv("PROXYSTORE_GLOBUS_CLIENT_SECRET", "secret-of-the-application")
    done = appfl_gc("login", "--proxystore")
    assert done.exit_code == 0 and "no login is needed" in done.stdout
    assert "secret-of" not in done.output and not home.exists()
