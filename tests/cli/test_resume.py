"""``appfl-gc resume``: what reaches the run, what is refused in words, and a killed run that is gone on with."""

from __future__ import annotations

import json
import os
import shutil
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import appfl_gc.runner
from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.main import cli
from appfl_gc.payload import checksum
from appfl_gc.protocol.errors import AppflGcError, ErrorReport
from appfl_gc.protocol.schedule import Finish, Started
from appfl_gc.protocol.schedule_json import step_to_json
from appfl_gc.runner.events import Outcome
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.lease import Lease
from appfl_gc.runner.resume.invocation import Invocation
from tests.cli.killed_run import RunProcess, copy, journal_of, killed_run
from tests.report.sample_run import LOST, finished, started, whole_run
from tests.small_federation import SmallFederation


@dataclass
class ApiStub:
    """Stands for ``appfl_gc.runner.api``; keeps what it was called with."""

    outcome: Outcome = Outcome.FINISHED
    error: ErrorReport | None = None
    raises: AppflGcError | None = None
    called: dict[str, Any] = field(default_factory=dict)

    def resume(self, run_dir: Path, **options: Any) -> object:
        self.called.update(options, run_dir=run_dir, cwd=Path.cwd())
        if self.raises is not None:
            raise self.raises
        ended = whole_run() if self.error is None else [started(), finished(self.outcome, error=self.error)]
        for event in ended:
            for callback in options["callbacks"]:
                callback.on_event(event)
        return types.SimpleNamespace(outcome=self.outcome, error=self.error)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> ApiStub:
    stub = ApiStub()
    monkeypatch.setitem(sys.modules, "appfl_gc.runner.api", stub)  # type: ignore[arg-type]
    monkeypatch.setattr(appfl_gc.runner, "api", stub, raising=False)
    return stub


def made_run(home: Path, *records: tuple[str, Mapping[str, Any]], invocation: bool = True) -> Path:
    """The directory of a run that began in ``home/project`` and whose journal holds ``records``."""
    project = home / "project"
    server, clients = SmallFederation(project).write()
    directory = home / "run"
    (directory / "payloads").mkdir(parents=True)
    (directory / "payloads" / "initial.safetensors").touch()
    (directory / "model.safetensors").touch()
    made = Invocation(server, clients, project, compute_token=None)
    if invocation:
        made.save(directory)
    (directory / "config.json").write_text(json.dumps(made.federation().resolved()))
    begun: Mapping[str, Any] = {
        "run": "run",
        "version": "0",
        "seed": 7,
        "clients": ["Client1", "Client2"],
        "threads": {},
        "spec": {},
        "sources": {},
        "model": "initial.safetensors",
        "checksum": checksum.of_file(directory / "payloads" / "initial.safetensors"),
    }
    with Journal(directory / "journal.jsonl") as journal:
        for kind, fields in (("run", begun), *records):
            journal.append(1.0, kind, **fields)
    return directory


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["resume", *map(str, arguments)])


def test_what_the_run_was_started_with_reaches_it_from_another_directory(
    tmp_path: Path, api: ApiStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = made_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_TOKEN", "very-secret")
    result = invoke("run", "--set", "server_configs.num_global_epochs=9", "--compute_token", "MY_TOKEN")
    assert result.exit_code == ExitCode.FINISHED, result.output
    assert "Finished after 3 of 3 rounds" in result.stdout
    called = api.called
    assert (called["run_dir"], called["cwd"]) == (directory, tmp_path / "project")
    assert called["server_config"] == tmp_path / "project" / "server.yaml"
    assert called["overrides"] == ("server_configs.num_global_epochs=9",)
    assert called["compute_token"] == "MY_TOKEN"
    assert Path.cwd() == tmp_path


def test_files_that_have_moved_are_named(
    tmp_path: Path, api: ApiStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = made_run(tmp_path)
    (tmp_path / "project").rename(tmp_path / "moved")
    gone = invoke(directory)
    assert gone.exit_code == ExitCode.CONFIGURATION
    assert "There is no file" in gone.stderr
    assert "server.yaml" in gone.stderr
    assert api.called == {}
    monkeypatch.chdir(tmp_path / "moved")
    found = invoke(directory, "--server_config", "server.yaml", "--client-config", "clients.yaml")
    assert found.exit_code == 0, found.output
    assert api.called["client_config"] == tmp_path / "moved" / "clients.yaml"


def test_a_run_that_began_from_a_loaded_federation_asks_for_its_files(tmp_path: Path, api: ApiStub) -> None:
    directory = made_run(tmp_path, invocation=False)
    refused = invoke(directory)
    assert refused.exit_code == ExitCode.CONFIGURATION
    assert "--server_config and --client_config" in refused.stderr
    files = ["--server_config", tmp_path / "project" / "server.yaml"]
    assert invoke(directory, *files).exit_code == ExitCode.CONFIGURATION
    both = invoke(directory, *files, "--client_config", tmp_path / "project" / "clients.yaml")
    assert both.exit_code == 0, both.output


@pytest.mark.parametrize("form", ["text", "json"])
def test_it_ends_with_the_exit_code_of_the_run(tmp_path: Path, api: ApiStub, form: str) -> None:
    directory = made_run(tmp_path)
    api.outcome, api.error = Outcome.FAILED, LOST
    result = invoke(directory, "--format", form)
    assert result.exit_code == ExitCode.INFRASTRUCTURE
    if form == "json":
        assert json.loads(result.stdout.splitlines()[-1])["exit_code"] == ExitCode.INFRASTRUCTURE


def test_a_finished_run_says_so_and_nothing_is_started(tmp_path: Path, api: ApiStub) -> None:
    begun, done = step_to_json(Started(("Client1", "Client2"))), step_to_json(Finish())
    steps = {"now": 1.0, "event": begun, "actions": [done]}
    directory = made_run(tmp_path, ("step", steps), ("finished", {"outcome": "finished"}))
    shutil.rmtree(directory / "payloads")  # as the server does last
    result = invoke(directory)
    assert result.exit_code == ExitCode.FINISHED, result.output
    assert "The run is finished" in result.stdout
    assert str(directory / "model.safetensors") in result.stdout
    (line,) = [json.loads(text) for text in invoke(directory, "--format", "json").stdout.splitlines()]
    assert (line["event"], line["outcome"], line["exit_code"]) == ("run_finished", "finished", 0)
    assert api.called == {}


def test_a_finished_run_whose_server_had_not_tidied_up_is_gone_on_with(tmp_path: Path, api: ApiStub) -> None:
    begun, done = step_to_json(Started(("Client1", "Client2"))), step_to_json(Finish())
    steps = {"now": 1.0, "event": begun, "actions": [done]}
    directory = made_run(tmp_path, ("step", steps), ("finished", {"outcome": "finished"}))
    assert invoke(directory).exit_code == ExitCode.FINISHED
    assert api.called["run_dir"] == directory


def test_what_is_no_run_or_is_damaged_is_told(tmp_path: Path, api: ApiStub) -> None:
    nothing = invoke(tmp_path)
    assert nothing.exit_code == ExitCode.CONFIGURATION
    assert "is not the directory of a run" in nothing.stderr
    directory = made_run(tmp_path)
    journal = directory / "journal.jsonl"
    journal.write_text(journal.read_text().replace("Client1", "Client9"))
    with journal.open("a") as file:
        file.write("deadbeef []\n")
    damaged = invoke(directory)
    assert damaged.exit_code == ExitCode.CONFIGURATION
    assert "journal.jsonl:2 does not match its checksum" in damaged.stderr
    assert "Traceback" not in damaged.output
    assert api.called == {}


def test_a_plan_of_a_run_that_is_run_is_refused(tmp_path: Path) -> None:
    directory = made_run(tmp_path)
    with Lease(directory, print):
        result = invoke(directory, "--plan")
    assert result.exit_code == ExitCode.CONFIGURATION
    assert f"is being run by process {os.getpid()} on" in result.stderr


def test_a_plan_says_what_has_changed_and_what_is_gone(tmp_path: Path) -> None:
    directory = made_run(tmp_path)
    server = tmp_path / "project" / "server.yaml"
    server.write_text(
        server.read_text()
        .replace("num_global_epochs: 2", "num_global_epochs: 9")
        .replace("seed: 7", "seed: 8")
    )
    (directory / "payloads" / "initial.safetensors").unlink()
    before = sorted(path for path in directory.rglob("*"))
    result = invoke(directory, "--plan", "--format", "json")
    assert result.exit_code == ExitCode.CONFIGURATION
    plan = json.loads(result.stdout)
    assert {(change["key"], change["may_change"]) for change in plan["changes"]} == {
        ("server_configs.num_global_epochs", True),
        ("model_configs.seed", False),
    }
    failed = {(row["subject"], row["check"]) for row in plan["rows"] if row["state"] == "fail"}
    assert failed == {("Run directory", "model"), ("Configuration", "changed")}
    assert [item["fate"] for item in plan["items"]] == ["greeted", "greeted"]
    (tmp_path / "project" / "model.py").unlink()
    text = invoke(directory, "--plan")
    assert text.exit_code == ExitCode.CONFIGURATION
    assert "model.py" in text.stdout
    assert sorted(path for path in directory.rglob("*")) == before


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return killed_run(tmp_path_factory.mktemp("killed"))


def test_a_killed_run_is_planned_and_gone_on_with_to_its_end(killed: Path, tmp_path: Path) -> None:
    directory = copy(killed, tmp_path)
    done = sum(record.kind == "round" for record in journal_of(directory))
    planned = invoke(directory, "--plan")
    assert planned.exit_code == 0, planned.output
    assert f"kept: {done} rounds" in planned.stdout
    assert journal_of(directory) == journal_of(killed)
    to = f"server_configs.num_global_epochs={done + 2}"
    with RunProcess("resume", str(directory), "--plain", "--set", to, cwd=tmp_path) as process:
        assert process.wait() == 0, process.printed
    assert f"Finished after {done + 2}" in process.printed
    assert f"Round {done} of" not in process.printed
    assert (directory / "model.safetensors").is_file()
    assert "is finished after" in invoke(directory).stdout
