"""``appfl-gc init``: from the source tree, and from a wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.init import FILES, init

ROOT = Path(__file__).parents[2]
NAMES = {*FILES.values(), "README.md"}


def run(directory: Path | str) -> Result:
    return CliRunner().invoke(init, [str(directory)])


def test_a_ready_example_is_written(tmp_path: Path) -> None:
    result = run(tmp_path / "deep" / "mine")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "deep" / "mine").iterdir()} == NAMES
    assert f"cd {tmp_path / 'deep' / 'mine'}" in result.output
    assert "appfl-gc run --server_config server.yaml --client_config clients.yaml" in result.output


def test_its_files_name_each_other(tmp_path: Path) -> None:
    run(tmp_path)
    for name in ("server.yaml", "clients.yaml"):
        text = (tmp_path / name).read_text()
        paths = re.findall(r'_path: "(.+)"', text)
        assert paths
        assert all((tmp_path / path).is_file() for path in paths)
    script = (tmp_path / "run.py").read_text()
    assert '"./server.yaml"' in script
    assert '"./clients.yaml"' in script


def test_its_script_finds_its_files_from_elsewhere(tmp_path: Path) -> None:
    run(tmp_path / "mine")
    code = "import runpy, sys; s = runpy.run_path(sys.argv[1]); print(s['beside'](s['SERVER_CONFIG']))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mine" / "run.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "mine" / "server.yaml")


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")
    result = run(tmp_path)
    assert result.exit_code == ExitCode.CANNOT_WRITE
    assert "already has model.py. Nothing was written." in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["model.py"]
    assert (tmp_path / "model.py").read_text() == "mine"


def test_a_directory_with_other_files_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert run(tmp_path).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {*NAMES, "notes.txt"}


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    assert run(tmp_path / "mine").exit_code == 2


def test_it_works_from_a_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheel")]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {f"appfl_gc/cli/example/{path}" for path in FILES} <= set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from appfl_gc.cli import init;"
        "print(init.examples_directory()); init.init()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "installed"), "mine"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "installed"))
    assert {path.name for path in (tmp_path / "mine").iterdir()} == NAMES
