"""The S3 server is killed under a run, and comes back: its transfers are tried again, nothing else is done again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appfl_gc.runner.events import ClientChanged, ClientState, ClientTrained, Outcome, RoundFinished, RunEvent
from tests.faults.table import record
from tests.runner.conftest import Heard, model_bits, train
from tests.s3_server import S3Server
from tests.small_federation import MODEL, SmallFederation

pytestmark = pytest.mark.chaos

BUCKET = "models"
AWAY_SECONDS = 2.0


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server.start(tmp_path / "s3")
    try:
        server.bucket(BUCKET)
        yield server
    finally:
        server.stop()


def federation(directory: Path) -> SmallFederation:
    """Two rounds of two clients, of half a second each."""
    slow = MODEL.replace(
        "    def forward(self, x):\n", "    def forward(self, x):\n        __import__('time').sleep(0.05)\n"
    )
    made = SmallFederation(directory, rounds=3, model=slow, train={"num_threads": 1})
    made.server["control_configs"] = {"slots": 2, "inline_limit_bytes": 0}
    made.server["fault_tolerance_configs"] = {"retries": {"transfer": 20}, "retry_seconds": 0.5}
    return made


PHASES: dict[str, Callable[[RunEvent], bool]] = {
    "before the model goes out": lambda event: isinstance(event, RoundFinished) and event.round == 1,
    "while sites train": lambda event: (
        isinstance(event, ClientChanged) and event.state is ClientState.WORKING and event.round == 2
    ),
    "while updates come in": lambda event: isinstance(event, ClientTrained) and event.round == 2,
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_store_that_is_killed_and_comes_back(s3: S3Server, tmp_path: Path, phase: str) -> None:
    by_files = model_bits(train(federation(tmp_path / "files")))
    stored = federation(tmp_path / "project")
    comm = {
        "s3_configs": {
            "enable_s3": True,
            "s3_bucket": BUCKET,
            "s3_creds_file": str(s3.credentials),
            "endpoint_url": s3.url,
        }
    }
    stored.client = {number: {"comm_configs": comm} for number in range(stored.clients)}
    came_back: list[threading.Thread] = []
    seen = threading.Event()

    def come_back() -> None:
        time.sleep(AWAY_SECONDS)
        s3.resume()
        seen.wait()  # the server ends with the thread that started it

    def strike(event: RunEvent) -> None:
        if PHASES[phase](event) and not came_back:
            s3.kill()
            came_back.append(threading.Thread(target=come_back))
            came_back[0].start()

    heard = Heard(strike)
    try:
        result = train(stored, heard=heard)
        assert result.outcome is Outcome.FINISHED, result.error
        assert model_bits(result) == by_files
        trained = [(one.client, one.round) for one in heard.of(ClientTrained)]  # type: ignore[attr-defined]
        assert len(trained) == len(set(trained)) == 6
        assert s3.keys(BUCKET) == []
        assert s3.uploads(BUCKET) == []
    finally:
        seen.set()
    record(f"S3 server SIGKILLed {phase}, back after {AWAY_SECONDS:.0f} s", 1, "same bits", "nothing")
