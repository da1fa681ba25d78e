"""The examples that move models by a store, as a user types them, with the real stores."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests import proxystore_bed
from tests.proxystore_bed import Bed
from tests.s3_server import S3Server
from tests.transfers.conftest import BUCKET

ROOT = Path(__file__).parents[2]
MNIST = ROOT / "examples" / "resources" / "config_gc" / "mnist"


def run_example(directory: Path, server: Path, clients: Path, *settings: str) -> str:
    """The example for one round; what it printed."""
    always = ("server_configs.num_global_epochs=1", f"server_configs.logging_output_dirname={directory}")
    chosen = [word for setting in (*always, *settings) for word in ("--set", setting)]
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "examples" / "globus_compute" / "run.py"),
            *("--server_config", str(server), "--client_config", str(clients), "--plain"),
            *chosen,
        ],
        cwd=ROOT / "examples",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_s3(tmp_path: Path, s3_server: S3Server) -> None:
    at = "client_configs.comm_configs.s3_configs"
    run_example(
        tmp_path,
        MNIST / "server_fedavg_s3.yaml",
        MNIST / "clients.yaml",
        f"{at}.s3_bucket={BUCKET}",
        f"{at}.s3_creds_file={s3_server.credentials}",
        f"{at}.endpoint_url={s3_server.url}",
    )
    (journal,) = tmp_path.glob("*/journal.jsonl")
    assert '"scheme":"s3"' in journal.read_text()


def test_proxystore(tmp_path: Path) -> None:
    if why := proxystore_bed.why_not():
        pytest.skip(why)
    bed = Bed(tmp_path).start()
    try:
        files = []
        for name, home in (("server_fedavg_proxystore", bed.a.home), ("clients_proxystore", bed.b.home)):
            text = (MNIST / f"{name}.yaml").read_text()
            # Both sites are this machine, so each says which of the two endpoints is its own.
            text = re.sub(r"(?m)^( +)endpoints:", rf"\1proxystore_dir: {home}\n\1endpoints:", text)
            for placeholder, endpoint in zip("12", bed.endpoints, strict=True):
                text = text.replace(str(uuid.UUID(placeholder * 32)), endpoint)
            files.append(tmp_path / f"{name}.yaml")
            files[-1].write_text(text)
        with bed.inside():
            run_example(tmp_path, *files)
        (journal,) = tmp_path.glob("*/journal.jsonl")
        assert '"scheme":"proxystore"' in journal.read_text()
    finally:
        bed.close()
