"""`appfl-gc runs clean` empties what a killed run left in a bucket, and touches nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.main import cli
from appfl_gc.config.connectors import FileArguments, RedisArguments
from appfl_gc.payload.proxystore.file_parts import FileParts
from appfl_gc.payload.proxystore.leftovers import Left, sweep_parts
from appfl_gc.payload.proxystore.parts import Parts
from appfl_gc.payload.proxystore.redis_parts import RedisParts
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.protocol.errors import TransferError
from appfl_gc.runner.journal import read_journal
from appfl_gc.runner.lease import Lease
from tests.redis_server import RedisServer
from tests.s3_server import SECRET_KEY, S3Server
from tests.small_federation import SmallFederation

KILLED_RUN = """
import os, sys, threading
from pathlib import Path
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.s3.settings import S3Settings
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.lease import Lease
from appfl_gc.runner.run_directory import RunDirectory

class Payload:
    codec, size = "safetensors-1", 100
    def chunks(self):
        yield memoryview(bytes(100))

directory = RunDirectory.create(Path(sys.argv[1]), sys.argv[2])
settings = S3Settings(sys.argv[3], sys.argv[4], None, Path(sys.argv[5]))
with Lease(directory.path, print), Journal(directory.journal):
    store = S3Store(settings, sys.argv[2], threading.Event())
    directory.write_json("stores.json", {"s3": [store.where]})
    store.put(Payload())
    store.grant([], 100)
    print("ready", flush=True)
    sys.stdin.read()
"""

RUN_KILLED_AT_WORK = """
import os, signal, sys
from appfl_gc.runner.api import run
from appfl_gc.runner.events import ClientChanged, ClientState

class Killing:
    def on_event(self, event):
        if isinstance(event, ClientChanged) and event.state is ClientState.WORKING:
            os.killpg(0, signal.SIGKILL)

run(sys.argv[1], sys.argv[2], callbacks=[Killing()])
"""

NEVER_DONE = """
import time
def accuracy(y_true, y_pred):
    time.sleep(600)
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
        assert f"The run output/other still runs: process {runs[1].pid} on " in refused.stderr
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


class Update:
    """What a site puts."""

    codec, size = "safetensors-1", 100

    def chunks(self) -> Iterator[memoryview]:
        yield memoryview(bytes(100))


def by(connector: str, configs: dict[str, Any]) -> dict[str, Any]:
    return {"enable_proxystore": True, "connector_type": connector, "connector_configs": configs}


def killed_run(tmp_path: Path, proxystore: dict[str, Any]) -> Path:
    """The directory of a run that was killed when its first client was at work."""
    federation = SmallFederation(tmp_path / "project", metric=NEVER_DONE)  # it puts no update before
    federation.server.update(
        logging_output_dirname=str(tmp_path / "output"), comm_configs={"proxystore_configs": proxystore}
    )
    federation.server["control_configs"] = {"slots": 1, "inline_limit_bytes": 0}
    for number in (0, 1):
        federation.client[number] = {"comm_configs": {"proxystore_configs": proxystore}}
    files = [str(file) for file in federation.write()]
    code = subprocess.run(
        [sys.executable, "-c", RUN_KILLED_AT_WORK, *files],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(tmp_path / "home")},
        timeout=180,
        check=False,
    ).returncode
    assert code == -signal.SIGKILL
    (directory,) = (tmp_path / "output").iterdir()
    return directory


def granted(directory: Path) -> list[str]:
    """The names under which sites were to put their updates."""
    return [
        record.fields["grant"]["large"]["locator"]
        for record in read_journal(directory / "journal.jsonl")
        if record.kind == "dispatch"
    ]


def test_what_a_killed_run_left_in_a_shared_directory_goes_and_foreign_files_stay(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "mine").write_text("precious")
    (shared / f"{'0' * 32}-0").write_text("of another run")
    theirs = sorted(shared.iterdir())
    directory = killed_run(tmp_path, by("FileConnector", {"store_dir": str(shared)}))
    parts = FileParts(FileArguments(store_dir=str(shared)), threading.Event())
    ProxyStoreStore(parts, parts.part_bytes, threading.Event(), locator=granted(directory)[0]).put(Update())
    assert len(list(shared.iterdir())) == len(theirs) + 4
    with Lease(directory, print):
        refused = clean(str(directory))
    assert refused.exit_code == 2
    assert "still runs" in refused.stderr
    told = clean("--dry-run", str(directory))
    assert told.exit_code == 0, told.stderr
    said = "1 global model and 1 update from ProxyStore's FileConnector."
    assert f"{directory}: would remove {said}" in told.stdout
    assert len(list(shared.iterdir())) == len(theirs) + 4
    done = clean()
    assert done.exit_code == 0, done.stderr
    assert f"output/{directory.name}: removed {said}" in done.stdout
    assert sorted(shared.iterdir()) == theirs
    assert "removed 0 global models and 0 updates" in clean(str(directory)).stdout


def test_what_a_killed_run_left_in_redis_goes(tmp_path: Path) -> None:
    redis = RedisServer.start(tmp_path / "redis")
    try:
        with redis.client() as client:
            client.set("mine", "precious")
        directory = killed_run(tmp_path, by("RedisConnector", redis.configs))
        assert len(redis.keys()) == 2
        done = clean(str(directory))
        assert "removed 1 global model and 0 updates from ProxyStore's RedisConnector." in done.stdout
        assert redis.keys() == {"mine"}
    finally:
        redis.kill()
    down = clean(str(directory))
    assert down.exit_code != 0
    assert "Not everything of" in down.stderr


def test_a_payload_whose_removal_was_cut_short_goes_as_a_whole(tmp_path: Path) -> None:
    redis = RedisServer.start(tmp_path / "redis")
    try:
        parts = RedisParts(RedisArguments(**redis.configs), threading.Event())
        with redis.client() as client:
            for number in (2, 3):
                client.set(f"{'a' * 32}-{number}", "part")
        left = Left("a" * 32, "", 3 * parts.part_bytes + 1)
        assert sweep_parts(parts, [left], dry_run=False).payloads == 1
        assert redis.keys() == set()
        parts.close()
    finally:
        redis.kill()


def test_a_place_that_fails_is_asked_once_and_the_others_are_cleaned() -> None:
    asked = []

    class Endpoints:
        places = ("down", "up")
        part_bytes = 10

        def __init__(self) -> None:
            self.held = {("a-0", "up"), ("b-0", "up"), ("c-0", "up")}

        def holds(self, name: str, where: str) -> bool:
            asked.append((name, where))
            if where == "down":
                raise TransferError("The endpoint is down.")
            return (name, where) in self.held

        def drop(self, name: str, where: str) -> None:
            self.held.remove((name, where))

    endpoints: Any = Endpoints()
    parts: Parts = endpoints
    swept = sweep_parts(parts, [Left("a"), Left("b"), Left("c", "elsewhere")], dry_run=False)
    assert swept.payloads == 2
    assert str(swept.trouble) == "The endpoint is down."
    assert [one for one in asked if one[1] == "down"] == [("a-0", "down")]
    assert endpoints.held == {("c-0", "up")}


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
        ({"proxystore": 1}, "can't be read as a list"),
        ({"proxystore": [{"connector_type": 1}]}, "damaged: The connector"),
        (
            {"proxystore": [{"connector_type": "Nothing", "connector_configs": {}, "site_configs": {}}]},
            "There is no connector",
        ),
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
