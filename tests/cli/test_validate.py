from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from appfl_gc.cli.main import cli

EXAMPLES = Path(__file__).parents[2] / "examples" / "resources" / "config_gc" / "mnist"
SERVER, CLIENTS = EXAMPLES / "server_fedavg.yaml", EXAMPLES / "clients.yaml"


def validate(*arguments: str, server: Path = SERVER, clients: Path = CLIENTS) -> tuple[int, str]:
    options = ["validate", "--server_config", str(server), "--client_config", str(clients), *arguments]
    result = CliRunner().invoke(cli, options)
    return result.exit_code, result.output


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    text = SERVER.read_text().replace("num_local_steps: 100", "num_local_stps: many")
    path.write_text(text.replace("./resources", str(EXAMPLES.parents[1])))
    return path


def test_a_valid_configuration() -> None:
    status, output = validate()
    valid, place = output.splitlines()
    assert (status, valid) == (0, "The configuration is valid.")
    assert place.endswith("runs in ./output/<run id>/local/tasks_working_dir.")


def test_errors_and_warnings_with_their_places(broken: Path) -> None:
    status, output = validate(server=broken)
    assert status == 2
    assert f"{broken}:6: warning: client_configs.train_configs.num_local_stps" in output
    assert "Hint: Did you mean `num_local_steps`?" in output
    assert "errors: 1 error, 1 warning." in output


def test_strict_makes_warnings_errors(tmp_path: Path) -> None:
    server = tmp_path / "server.yaml"
    server.write_text(SERVER.read_text().replace("./resources", str(EXAMPLES.parents[1])) + "\nmore: 1\n")
    assert validate(server=server)[0] == 0
    assert validate("--strict", server=server)[0] == 2


def test_json(broken: Path) -> None:
    status, output = validate("--format", "json", "--explain", server=broken)
    report = json.loads(output)
    assert (status, report["valid"]) == (2, False)
    assert report["diagnostics"][0]["severity"] == "error"
    assert report["effective"]["server"]["device"]["value"] == "cpu"


def test_explain_shows_values_and_origins() -> None:
    status, output = validate("--explain", "--set", "server_configs.num_global_epochs=9")
    assert status == 0
    lines = [line.split() for line in output.splitlines()]
    assert ["num_global_epochs", "=", "9", "command", "line"] in lines
    assert ["train_configs.num_workers", "=", "0", "default"] in lines


def test_neither_torch_nor_globus_is_imported() -> None:
    program = f"""
        import sys
        from appfl_gc.cli.main import cli
        files = ["--server_config", {str(SERVER)!r}, "--client_config", {str(CLIENTS)!r}]
        try:
            cli.main(["validate", *files])
        except SystemExit as ended:
            status = ended.code
        heavy = [name for name in sys.modules if name.partition(".")[0] in {{"torch", "globus_compute_sdk",
                 "globus_sdk", "globus_compute_endpoint", "parsl", "numpy", "boto3", "proxystore"}}]
        sys.exit(status or (f"imported {{heavy}}" if heavy else 0))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
