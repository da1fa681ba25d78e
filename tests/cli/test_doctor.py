from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.doctor import exit_code_of
from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.main import cli
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.doctor.row import Row, Subject
from tests.small_federation import SmallFederation

THING = Subject("thing")
HEAVY = ("torch", "numpy", "globus_compute_sdk", "globus_sdk", "pydantic", "omegaconf", "rich", "jsonschema")


def doctor(*arguments: str, federation: SmallFederation) -> Result:
    server, clients = federation.write()
    files = ["--server_config", str(server), "--client_config", str(clients)]
    return CliRunner().invoke(cli, ["doctor", *files, *arguments])


def failing(*classes: ErrorClass) -> list[Row]:
    return [THING.ok("a", "b"), *(THING.fail("c", "d", "e", one) for one in classes)]


def test_without_skip_jobs_it_says_what_is_not_there(tmp_path: Path) -> None:
    result = doctor(federation=SmallFederation(tmp_path))
    assert result.exit_code == ExitCode.CONFIGURATION
    assert "not supported yet" in result.stderr and "--skip-jobs" in result.stderr


def test_a_federation_on_this_machine_is_fine(tmp_path: Path) -> None:
    result = doctor("--skip-jobs", federation=SmallFederation(tmp_path))
    assert result.exit_code == 0, result.output
    assert "This machine" in result.stdout and result.stdout.endswith("checks are fine.\n")


def test_json_is_one_document(tmp_path: Path) -> None:
    result = doctor("--skip-jobs", "--format", "json", federation=SmallFederation(tmp_path))
    document = json.loads(result.stdout)
    assert (document["ok"], document["exit_code"]) == (True, 0)
    assert {row["state"] for row in document["rows"]} == {"ok"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_errors_of_the_files_end_it_before_anything_is_asked(tmp_path: Path, form: str) -> None:
    federation = SmallFederation(tmp_path, server={"num_clients": 3})
    result = doctor("--skip-jobs", "--format", form, federation=federation)
    assert result.exit_code == ExitCode.CONFIGURATION
    assert "`num_clients` is 3" in result.stderr
    if form == "json":
        document = json.loads(result.stdout)
        assert (document["ok"], document["rows"]) == (False, [])
        assert "num_clients" in document["diagnostics"][0]["key"]


def test_set_changes_a_value(tmp_path: Path) -> None:
    override = "server_configs.control_configs.engine=NoEngine"
    result = doctor("--skip-jobs", "--set", override, federation=SmallFederation(tmp_path))
    assert result.exit_code == ExitCode.CONFIGURATION


@pytest.mark.parametrize(
    ("classes", "code"),
    [
        ((), ExitCode.FINISHED),
        ((ErrorClass.USER,), ExitCode.CONFIGURATION),
        ((ErrorClass.ENDPOINT,), ExitCode.ACCESS),
        ((ErrorClass.SERVICE,), ExitCode.INFRASTRUCTURE),
        ((ErrorClass.SERVICE, ErrorClass.LOGIN), ExitCode.ACCESS),
        ((ErrorClass.SERVICE, ErrorClass.LOGIN, ErrorClass.USER), ExitCode.CONFIGURATION),
        ((ErrorClass.VERSION, ErrorClass.SERVICE), ExitCode.SITE_SOFTWARE),
        ((ErrorClass.STORAGE,), ExitCode.CANNOT_WRITE),
    ],
)
def test_the_exit_status_is_that_of_what_must_be_mended_first(
    classes: tuple[ErrorClass, ...], code: ExitCode
) -> None:
    assert exit_code_of(failing(*classes)) is code


def test_warnings_do_not_count() -> None:
    assert exit_code_of([THING.warn("a", "b"), THING.skipped("c", "d")]) is ExitCode.FINISHED


def test_its_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom appfl_gc.cli.main import cli\n"
        "try: cli.main(['doctor', '--help'])\nexcept SystemExit: pass\n"
        f"sys.exit(','.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
