from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from appfl_gc.cli import main as main_module
from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.main import COMMANDS, LazyCommand, cli
from appfl_gc.cli.program import Program
from appfl_gc.cli.reference_page import reference_page
from appfl_gc.protocol.errors import UserCodeError
from tests.small_federation import SmallFederation

HEAVY = ("torch", "numpy", "globus_compute_sdk", "globus_compute_endpoint", "pydantic", "omegaconf", "rich")
PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom appfl_gc.cli.main import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        f"sys.exit(','.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in COMMANDS)
    assert min(seconds) < 0.5


def test_a_misspelt_command_gets_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["vaildate"])
    assert result.exit_code == ExitCode.CONFIGURATION
    assert "Did you mean `validate`?" in result.stderr


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_listed_command_exists_and_explains_itself(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert f" {name} " in result.stdout.splitlines()[0] and len(result.stdout.splitlines()) > 4


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text("utf-8") == reference_page(), "python -m appfl_gc.cli.reference_page > docs/cli.md"


def failing(error: BaseException) -> click.Command:
    @click.command(cls=Program)
    @click.option("--debug", is_flag=True)
    def command(debug: bool) -> None:
        raise error

    return command


def test_an_error_is_told_in_sentences_without_a_traceback() -> None:
    result = CliRunner().invoke(failing(UserCodeError("The model is wrong.", "Correct it.")), [])
    assert (result.exit_code, result.stdout) == (ExitCode.USER_CODE, "")
    assert result.stderr == "Error: The model is wrong.\nHint: Correct it.\n"


def test_a_bug_says_where_to_report_it_and_shows_its_trace_with_debug_only() -> None:
    plain = CliRunner().invoke(failing(ZeroDivisionError("oops")), [])
    assert plain.exit_code == ExitCode.INTERNAL
    assert "ZeroDivisionError: oops" in plain.stderr and "--debug" in plain.stderr
    assert "Traceback" not in plain.stderr
    debug = CliRunner().invoke(failing(ZeroDivisionError("oops")), ["--debug"])
    assert "Traceback (most recent call last)" in debug.stderr and __file__ in debug.stderr


def test_a_file_that_cannot_be_written_is_named() -> None:
    result = CliRunner().invoke(failing(PermissionError(13, "Permission denied", "/root/out")), [])
    assert result.exit_code == ExitCode.CANNOT_WRITE
    assert "/root/out cannot be written: Permission denied." in result.stderr


def test_ctrl_c_has_its_own_code() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()), [])
    assert (result.exit_code, result.stderr.strip()) == (ExitCode.INTERRUPTED, "Interrupted.")


def test_errors_of_sub_commands_are_told_by_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LazyCommand, "load", lambda self: failing(UserCodeError("Wrong.")))
    result = CliRunner().invoke(main_module.cli, ["run"])
    assert (result.exit_code, result.stderr) == (ExitCode.USER_CODE, "Error: Wrong.\n")


def test_a_reader_that_has_seen_enough_does_not_change_the_exit_status(tmp_path: Path) -> None:
    server, clients = SmallFederation(tmp_path).write()
    command = [sys.executable, "-m", "appfl_gc.cli.main", "run", "--plain"]
    command += ["--server_config", str(server), "--client_config", str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        told = run.stderr.read()
        assert run.wait(timeout=120) == 0, told
    assert told == ""


def test_control_characters_of_an_argument_do_not_reach_the_terminal() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "appfl_gc.cli.main",
            "validate",
            "--server_config",
            "lo\x1b[31m",
            "--client_config",
            "x",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
