"""`appfl-gc runs clean` empties what a killed run left in a bucket, and touches nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.main import cli
from tests.s3_server import SECRET_KEY, S3Server

KILLED_RUN = """
import os, sys, threading
from pathlib import Path
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.s3.settings import S3Settings
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.run_directory import RunDirectory

class Payload:
    codec, size = "safetensors-1", 100
    def chunks(self):
        yield memoryview(bytes(100))

directory = RunDirectory.create(Path(sys.argv[1]), sys.argv[2])
settings = S3Settings(sys.argv[3], sys.argv[4], None, Path(sys.argv[5]))
with Journal(directory.journal) as journal:
    journal.flush()
    store = S3Store(settings, sys.argv[2], threading.Event())
    directory.write_json("stores.json", {"s3": [store.where]})
    store.put(Payload())
    store.grant([], 100)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    server = S3Server.start(tmp_path_factory.mktemp("s3"))
    server.bucket("models")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start_run(server: S3Server, name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, "output", name, "models", server.url, str(server.credentials)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def clean(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["runs", "clean", *arguments])


def left(server: S3Server, name: str) -> int:
    return sum(f"/{name}/" in key for key in server.keys("models") + server.uploads("models"))


def test_what_a_killed_run_left_goes_and_nothing_else(server: S3Server) -> None:
    server.client().put_object(Bucket="models", Key="mine", Body=b"precious")
    runs = [start_run(server, name) for name in ("one", "other")]
    try:
        kill(runs[0])
        refused = clean("output/other")
        assert refused.exit_code == 2
        assert "The run output/other still runs" in refused.stderr
    finally:
        kill(runs[1])
    told = clean("--dry-run", "output/one")
    assert "output/one: would remove 1 object (100 bytes) and 1 unfinished upload" in told.stdout
    assert left(server, "one") == 2
    done = clean("output/one")
    assert done.exit_code == 0, done.stderr
    assert (
        "output/one: removed 1 object (100 bytes) and 1 unfinished upload from the S3 bucket models."
        in done.stdout
    )
    assert (left(server, "one"), left(server, "other")) == (0, 2)
    everything = clean()
    assert "output/one: removed 0 objects (0 bytes) and 0 unfinished uploads" in everything.stdout
    assert "output/other: removed 1 object" in everything.stdout
    assert left(server, "other") == 0
    assert "mine" in server.keys("models")
    assert SECRET_KEY not in (Path("output/one/stores.json")).read_text()


def test_nothing_to_clean() -> None:
    assert "No run in output" in clean().stdout
    directory = Path("output/quiet")
    directory.mkdir(parents=True)
    (directory / "journal.jsonl").touch()
    assert clean("output/quiet").exit_code == 0


@pytest.mark.parametrize(
    ("stores", "said"),
    [
        ("[", "can't be read as a list"),
        ({"s3": 1}, "can't be read as a list"),
        ({"s3": [{"bucket": 1}]}, "damaged: The bucket"),
        ({"s3": [{"bucket": "models", "prefix": ""}]}, "objects of another run"),
        ({"s3": [{"bucket": "models", "prefix": "/"}]}, "objects of another run"),
        ({"s3": [{"bucket": "models", "prefix": "appfl_gc/two/"}]}, "objects of another run"),
        ({"s3": [{"bucket": "models", "prefix": "../one/"}]}, "is not where a run keeps"),
        ({"s3": [{"bucket": "models", "prefix": "one/"}]}, "is not where a run keeps"),
        (None, "is not the directory of a run"),
    ],
)
def test_a_directory_that_says_something_else_is_refused(
    stores: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    directory = Path("output/one")
    directory.mkdir(parents=True)
    if stores is not None:
        (directory / "journal.jsonl").touch()
        (directory / "stores.json").write_text(stores if isinstance(stores, str) else json.dumps(stores))
    result = clean(str(directory))
    assert result.exit_code == 2, result.output
    assert said in result.stderr
