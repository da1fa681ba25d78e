"""`appfl-gc sources export`: what a run would send, with the hashes that sites check."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from click.testing import CliRunner

from appfl_gc.cli.main import cli
from tests.small_federation import SmallFederation


def test_export_writes_every_file_once_with_its_hash(tmp_path: Path) -> None:
    server, clients = SmallFederation(tmp_path / "project").write()
    arguments = [
        "--server_config",
        str(server),
        "--client_config",
        str(clients),
        "--output",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(cli, ["sources", "export", *arguments, "--format", "json"])
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["kind"] for row in rows} == {"model", "metric", "dataset"}
    for row in rows:
        assert hashlib.sha256(Path(row["file"]).read_bytes()).hexdigest() == row["sha256"]
        assert row["clients"] == ["Client1", "Client2"]
    assert (
        CliRunner().invoke(cli, ["sources", "export", *arguments]).stdout.count("for Client1, Client2") == 3
    )
