"""``appfl-gc cancel`` ends a run through its directory, and does for a dead server what can still be done."""

from __future__ import annotations

import errno
import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.main import cli
from appfl_gc.payload.mailbox.file import FileServerMailbox, FileSiteMailbox
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.resume.reading import read_past
from appfl_gc.runner.run_directory import RunDirectory
from tests.cli.killed_run import journal_of, start_run, until


def cancel(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["cancel", *map(str, arguments)])


def test_a_run_ends_as_with_ctrl_c_and_can_be_gone_on_with(tmp_path: Path) -> None:
    process, directory = start_run(tmp_path, rounds=10_000)
    with process:
        until(lambda: any(record.kind == "round" for record in journal_of(directory)))
        os.kill(process.process.pid, signal.SIGSTOP)
        asked = cancel(directory, "--wait", "0")
        assert (asked.exit_code, asked.stdout) == (0, "")
        assert f"Asking process {process.process.pid} on" in asked.stderr
        silent = cancel(directory, "--wait", "0.5")
        assert silent.exit_code == ExitCode.INFRASTRUCTURE
        assert f"process {process.process.pid} on" in silent.stderr
        assert process.process.poll() is None
        os.kill(process.process.pid, signal.SIGCONT)
        done = cancel(directory)
        assert done.exit_code == 0, done.output
        assert f"`appfl-gc resume {directory}` goes on with it" in done.stdout
        assert process.wait() == ExitCode.INTERRUPTED, process.printed
    assert "A request of process" in process.printed
    assert "Interrupted after" in process.printed
    assert not list(directory.rglob("*.mark"))
    plan = CliRunner().invoke(cli, ["resume", str(directory), "--plan"])
    assert plan.exit_code == 0, plan.output


def dead_run(home: Path) -> tuple[Path, FileSiteMailbox]:
    """A run whose server is dead: one call with a mark that its site watches, one without."""
    directory = home / "run"
    (directory / "payloads").mkdir(parents=True)
    box = FileServerMailbox(directory / "payloads")
    with Journal(directory / "journal.jsonl") as journal:
        journal.append(
            0.0,
            "run",
            run="run",
            version="0",
            seed=7,
            clients=["A", "B"],
            threads={},
            spec={},
            sources={},
            model="initial.safetensors",
            checksum="",
        )
        for client, mailbox in (("A", box.public), ("B", None)):
            journal.append(
                1.0, "dispatch", client=client, round=3, attempt=1, version=2, mailbox=mailbox, grant={}
            )
    return directory, FileSiteMailbox.from_grant(box.grant)


def test_for_a_dead_server_sites_are_told_and_what_cannot_be_stopped_is_named(tmp_path: Path) -> None:
    directory, site = dead_run(tmp_path)
    assert site.wanted()
    done = cancel(directory)
    assert done.exit_code == 0, done.output
    assert not site.wanted()
    past = read_past(RunDirectory(directory))
    assert past.orderly
    assert set(past.open) == {"A", "B"}
    assert "Client A, round 3: the call stops at its site's next step" in done.stdout
    assert "Client B, round 3: the call can't be stopped" in done.stdout
    assert "No server runs" in done.stdout


def test_a_site_is_stopped_only_once_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, a call that was stopped would be waited for."""
    directory, site = dead_run(tmp_path)
    append = Journal.append

    def full(self: Journal, at: float, kind: str, **fields: object) -> None:
        if kind == "finished":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, at, kind, **fields)

    monkeypatch.setattr(Journal, "append", full)
    assert cancel(directory).exit_code == ExitCode.CANNOT_WRITE
    assert site.wanted()


@pytest.mark.parametrize("records", [0, 1])
def test_a_run_that_had_not_begun_gets_no_record(tmp_path: Path, records: int) -> None:
    directory, _ = dead_run(tmp_path)
    journal = directory / "journal.jsonl"
    kept = b"".join(journal.read_bytes().splitlines(keepends=True)[:records])
    journal.write_bytes(kept + b"0123")
    done = cancel(directory)
    assert done.exit_code == 0, done.output
    assert "It had not begun" in done.stdout
    assert journal.read_bytes() == kept + b"0123"


def test_what_lies_in_stores_goes(tmp_path: Path) -> None:
    directory, _ = dead_run(tmp_path)
    shared = tmp_path / "shared"
    shared.mkdir()
    configs = {"store_dir": str(shared)}
    place = {"connector_type": "FileConnector", "connector_configs": configs, "site_configs": configs}
    (directory / "stores.json").write_text(json.dumps({"proxystore": [place]}))
    done = cancel(directory)
    assert done.exit_code == 0, done.output
    assert "removed 0 global models and 0 updates from ProxyStore's FileConnector" in done.stdout


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    result = cancel(tmp_path)
    assert result.exit_code == ExitCode.CONFIGURATION
    assert "is not the directory of a run" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    directory, site = dead_run(tmp_path)
    directory.chmod(0o500)
    try:
        assert cancel(directory).exit_code == ExitCode.CANNOT_WRITE
    finally:
        directory.chmod(0o700)
    assert site.wanted()
