"""The script ``globus_compute/run.py``: whatever it is given goes to ``appfl-gc run``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "globus_compute" / "run.py"
RESOURCES = Path("resources") / "config_gc" / "mnist"

# Runs the script with the public function of `run` replaced by one that prints what it would run.
WATCHED = """
import runpy, sys
import appfl_gc.cli.run as command
def main(server_config, client_config):
    print(f"{server_config.resolve()} {client_config.resolve()} {sys.argv[1:]}")
command.main = main
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(directory: Path, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = [sys.executable] if code is None else [sys.executable, "-c", code]
    command = [*start, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("place", ["examples", "root", "elsewhere"])
def test_the_default_files_are_found_from_anywhere(place: str, tmp_path: Path) -> None:
    directory = {"examples": EXAMPLES, "root": EXAMPLES.parent, "elsewhere": tmp_path}[place]
    done = run(directory, code=WATCHED)
    server, clients = EXAMPLES / RESOURCES / "server_fedcompass.yaml", EXAMPLES / RESOURCES / "clients.yaml"
    assert done.stdout.strip() == f"{server} {clients} []", done.stderr


def test_files_of_the_working_directory_come_first(tmp_path: Path) -> None:
    (tmp_path / RESOURCES).mkdir(parents=True)
    (tmp_path / RESOURCES / "clients.yaml").touch()
    done = run(tmp_path, code=WATCHED)
    assert str(tmp_path / RESOURCES / "clients.yaml") in done.stdout


@pytest.mark.parametrize("option", ["--compute_token", "--openid_token"])
@pytest.mark.parametrize("form", ["{} {}", "{}={}"])
def test_a_token_is_refused_and_not_repeated(option: str, form: str, tmp_path: Path) -> None:
    done = run(tmp_path, *form.format(option, "very-secret").split())
    assert done.returncode == 2
    assert option in done.stderr
    assert "never belongs on a command line" in done.stderr
    assert "very-secret" not in done.stdout + done.stderr


def test_the_published_options_are_those_of_the_command(tmp_path: Path) -> None:
    helped = run(tmp_path, "--help")
    assert helped.returncode == 0, helped.stderr
    for option in (
        "--server_config",
        "--client_config",
        "--enable_server_val",
        "--compute_token",
        "--openid_token",
    ):
        assert option in helped.stdout
    assert run(tmp_path, "--no_such_option").returncode == 2


def test_importing_the_script_starts_nothing() -> None:
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='worker'); print('appfl_gc' in sys.modules)"
    )
    assert run(EXAMPLES, code=code).stdout.strip() == "False"
