"""`appfl-gc endpoint`: options arrive, errors are sentences, JSON is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from appfl_gc.cli.main import cli
from appfl_gc.hpc.endpoint import agent
from appfl_gc.hpc.knobs import KNOBS
from appfl_gc.protocol.errors import NotSupportedError

OLDER = Path(__file__).parent.parent / "hpc" / "endpoint" / "older"


@pytest.fixture(autouse=True)
def endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "endpoints"))
    monkeypatch.setattr("appfl_gc.hpc.endpoint.configure._NODE_LOCAL", ())
    return tmp_path / "endpoints"


def endpoint(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["endpoint", *arguments])


def test_every_setting_is_an_option() -> None:
    told = endpoint("configure", "--help").stdout
    for name in KNOBS:
        assert f"--{name.replace('_', '-')}" in told


def test_configure(endpoints: Path, tmp_path: Path) -> None:
    script = tmp_path / "init.sh"
    script.write_text("module load cuda\n")
    done = endpoint(
        *("configure", "site", "--facility", "slurm", "--account", "abc", "--queue", "gpu"),
        *(
            "--worker-init",
            f"@{script}",
            "--accelerators",
            "0.0,0.1",
            "--max-blocks",
            "2",
            "--interface",
            "lo",
        ),
        *("--env", "A=b=c", "--lock", "max-blocks", "--display-name", "Ours", "--amqp-port", "443"),
    )
    assert done.exit_code == 0, done.stderr
    assert "appfl-gc endpoint start site" in done.stdout
    template = (endpoints / "site" / "user_config_template.yaml.j2").read_text()
    for words in ("module load cuda", '["0.0", "0.1"]', "max_blocks: 2", "export A=b=c", "abc", '"lo"'):
        assert words in template, words
    core = yaml.safe_load((endpoints / "site" / "config.yaml").read_text())
    assert (core["display_name"], core["amqp_port"]) == ("Ours", 443)
    checked = endpoint("check", "site")
    assert (checked.exit_code, checked.stdout) == (0, "The endpoint site is in order.\n"), checked.stdout

    again = endpoint("configure", "site", "--facility", "local")
    assert again.exit_code == 2
    assert "--replace" in again.stderr
    replaced = endpoint("configure", "site", "--facility", "local", "--replace")
    assert "The old files are in" in replaced.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--facility", "slurm", "--account", "a\nb"), "account"),
        (("--facility", "nowhere"), "There are aurora"),
        (("--facility", "local", "--env", "A"), "--env"),
        (("--facility", "local", "--env", "A_PASSWORD=hidden"), "A_PASSWORD"),
        (("--facility", "local", "--worker-init", "@/nowhere"), "/nowhere"),
        (("--facility", "local", "--lock", "nothing"), "nothing"),
        (("--facility", "local", "--map", "a@b.c=x"), "--multi-user"),
    ],
)
def test_what_is_refused(arguments: tuple[str, ...], words: str, endpoints: Path) -> None:
    done = endpoint("configure", "site", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr
    assert not endpoints.exists()


def test_an_administrator_is_told_what_to_review(endpoints: Path) -> None:
    done = endpoint("configure", "site", "--facility", "local", "--multi-user", "--map", "a@uni.edu=alice")
    assert done.exit_code == 0, done.stderr
    assert "1 identity is mapped" in done.stdout
    assert "a@uni.edu" in (endpoints / "site" / "identity_mapping_config.json").read_text()


def test_migrate_and_check(endpoints: Path) -> None:
    (endpoints / "site").mkdir(parents=True)
    (endpoints / "site" / "config.yaml").write_text((OLDER / "polaris.yaml").read_text())
    before = endpoint("check", "site")
    assert before.exit_code == 2
    assert "endpoint migrate site" in before.stdout
    done = endpoint("migrate", "site")
    assert done.exit_code == 0, done.stderr
    assert "- engine.type: HighThroughputEngine is gone" in done.stdout
    assert "Each client must give account" in done.stdout
    options = ("--option", "account=a", "--option", "interface=lo", "--option", "max_blocks=2")
    assert endpoint("check", "site", *options).exit_code == 0
    found = json.loads(endpoint("check", "site", "--format", "json", "--option", "account=a b").stdout)
    assert [one["is_error"] for one in found] == [True]
    again = endpoint("migrate", "site")
    assert "nothing was changed" in again.stdout


def test_status_and_list(endpoints: Path) -> None:
    assert "no endpoints" in endpoint("list").stdout
    assert endpoint("status", "site").exit_code == 2
    endpoint("configure", "site", "--facility", "local")
    assert "stopped" in endpoint("status", "site").stdout
    assert json.loads(endpoint("status", "site", "--format", "json").stdout)["state"] == "stopped"
    assert "site" in endpoint("list").stdout
    (one,) = json.loads(endpoint("list", "--format", "json").stdout)
    assert one["name"] == "site"
    assert "was not running" in endpoint("stop", "site").stdout


def test_another_system(endpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_linux() -> None:
        raise NotSupportedError("The Globus Compute agent runs on Linux only.", "Run it in a container.")

    monkeypatch.setattr(agent, "require_linux", not_linux)
    for arguments in (("configure", "site", "--facility", "local"), ("start", "site")):
        done = endpoint(*arguments)
        assert done.exit_code == 2
        assert "Linux only" in done.stderr
