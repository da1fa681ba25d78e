"""Many rounds in which anything breaks at any time: the run ends with its own bits, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.faults.breaking import PAYLOAD
from tests.faults.nursery import DEADLINE, Nursery, Served
from tests.faults.proof import Bench, check_replays, counted
from tests.faults.table import record
from tests.s3_server import S3Server

pytestmark = pytest.mark.chaos

PATIENT = {"retries": 1000, "retry_seconds": 0.01, "on_missing": "wait"}
"""Nobody is set aside, so that the bits are those of an undisturbed run."""
MOST_GROWTH = 20_000
"""Bytes a round by which a server's memory may grow on average."""


def in_session(leader: int) -> list[int]:
    """Processes of the session that a server leads: its workers, and itself."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def gone(leader: int) -> bool:
    """Whether within some seconds no process of the session of ``leader`` is left."""
    until = time.monotonic() + 20
    while in_session(leader) and time.monotonic() < until:
        time.sleep(0.05)
    return not in_session(leader)


@dataclass
class Storm:
    """A run that is disturbed from outside, at places that ``dice`` choose.

    Attributes:
        bench: the job, and the bits that it must lead to.
        dice: choose what breaks, and when.
        every: records of the journal between two faults, on average.
        server: process id of the server that runs.
        injected: how often each fault was.
        memory: rounds done and bytes of memory, of the server that runs.
    """

    bench: Bench
    dice: random.Random
    every: int
    server: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, int]] = field(default_factory=list)

    def start(self) -> None:
        """Start a server, the first or one that goes on."""
        fresh = not any(self.bench.job.output.iterdir())
        self.server = self.bench.nursery.start(self.bench.job, resume=not fresh)
        self.memory = []

    def rage(self, faults: dict[str, Callable[[], None]], rounds: int) -> bool:
        """Break things until ``rounds`` are done; False if the server has ended by itself."""
        while self.rounds < rounds:
            if not self._advanced(self.dice.randint(1, 2 * self.every)):
                return False
            fault = self.dice.choice(list(faults))
            self.injected[fault] += 1
            faults[fault]()
        return True

    @property
    def rounds(self) -> int:
        """That are done."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return len(self.bench.rows("round"))
        return 0

    def _advanced(self, records: int) -> bool:
        """Wait until the journal has that many records more; False if the server has ended before."""
        until, from_ = time.monotonic() + DEADLINE, self._records()
        while self._records() < from_ + records:
            if not psutil.pid_exists(self.server) or self._ended():
                return False
            assert time.monotonic() < until, self._log()
            time.sleep(0.002)
        self.memory.append((self.rounds, psutil.Process(self.server).memory_info().rss))
        return True

    def _ended(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.server).status() == psutil.STATUS_ZOMBIE
        return True

    def _records(self) -> int:
        with contextlib.suppress(ValueError, FileNotFoundError):
            return (self.bench.run_dir / "journal.jsonl").read_bytes().count(b"\n")
        return 0

    def _log(self) -> str:
        return (self.bench.run_dir / "server.log").read_text()[-4000:]

    # What breaks

    def kill_worker(self) -> None:
        """SIGKILL one worker."""
        with contextlib.suppress(psutil.NoSuchProcess):
            cradle = psutil.Process(self.server).children()
            workers = [worker for process in cradle for worker in process.children()]
            if workers:
                self.dice.choice(workers).kill()

    def kill_server(self) -> None:
        """SIGKILL the server, and go on with its run."""
        os.kill(self.server, signal.SIGKILL)
        assert self.bench.nursery.wait(self.server).killed
        assert gone(self.server)
        self.start()

    def interrupt_server(self) -> None:
        """SIGINT to the server, and go on with its run."""
        os.kill(self.server, signal.SIGINT)
        served = self.bench.nursery.wait(self.server)
        # While it starts it takes no interrupts in order.
        assert served.outcome in ("interrupted", "finished") or served.status == -signal.SIGINT, served
        assert gone(self.server)
        self.start()

    def remove_payload(self) -> None:
        """Take a payload out of the store."""
        if found := self._payloads():
            self.dice.choice(found).unlink(missing_ok=True)

    def damage_payload(self) -> None:
        """Alter an update on its way; a model's payload is the server's own file."""
        for path in self._payloads():
            with contextlib.suppress(OSError):
                if path.stat().st_nlink == 1:
                    content = bytearray(path.read_bytes())
                    content[-1] ^= 1
                    path.write_bytes(content)
                    return

    def _payloads(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            found = (self.bench.run_dir / "payloads").iterdir()
            return sorted(path for path in found if PAYLOAD.fullmatch(path.name))
        return []

    def purge(self) -> None:
        """Take away what the site remembers: outbox, claims, checkpoints, sources."""
        for path in (self.bench.run_dir / "local" / "site").glob("*"):
            shutil.rmtree(path, ignore_errors=True)

    def end(self) -> Served:
        """Wait for the end of the run."""
        served = self.bench.nursery.wait(self.server, deadline=600)
        assert gone(self.server)
        return served

    def growth(self) -> float:
        """Bytes of memory a round by which the server grew, from its 10th round on."""
        first = self.memory[0][0] + 10
        rounds, size = np.array([one for one in self.memory if one[0] >= first], dtype=float).T
        return float(np.polyfit(rounds, size, 1)[0])


def check_ended(storm: Storm, served: Served) -> None:
    """The run is whole, and nothing of it is left where it does not belong."""
    bench = storm.bench
    assert served.outcome == "finished", (served, storm.injected)
    assert (bench.run_dir / "model.safetensors").read_bytes() == bench.bits
    by_client = Counter((row["client"], row["round"]) for row in bench.rows("client"))
    assert len(by_client) == bench.federation.clients * bench.federation.rounds
    assert set(by_client.values()) == {1}
    assert len(bench.rows("round")) == bench.federation.rounds
    assert not (bench.run_dir / "payloads").exists()
    assert not (bench.run_dir / "local" / "site").exists()
    check_replays(bench)


def tell(storm: Storm, where: str) -> None:
    """Rows of the table for what was done to a run, whose payloads were in ``where``."""
    bench = storm.bench
    lost = f"of all of them: {bench.begun_again()} of {len(bench.begun())} trainings begun again"
    for fault, times in storm.injected.items():
        rounds = storm.bench.federation.rounds
        record(f"{rounds} rounds by {where}, at random: {fault}", times, "same bits", lost)


def test_two_hundred_rounds_with_anything_breaking_at_any_time(
    nursery: Nursery, trainings: Path, tmp_path: Path
) -> None:
    control = {"slots": 2, "inline_limit_bytes": 0}
    federation = counted(
        tmp_path, trainings, rounds=200, control_configs=control, fault_tolerance_configs=PATIENT
    )
    storm = Storm(Bench.make(nursery, trainings, federation).fresh("storm"), random.Random(6), every=25)
    at_the_site = {
        "worker SIGKILLed": storm.kill_worker,
        "payload removed": storm.remove_payload,
        "update altered in the store": storm.damage_payload,
        "outbox, claims and checkpoints removed": storm.purge,
    }
    at_the_server = {
        "server SIGKILLed": storm.kill_server,
        "server interrupted (SIGINT)": storm.interrupt_server,
    }
    storm.start()
    assert storm.rage(at_the_site | at_the_server, 80)
    # From here on one server does all rounds, so that its memory can be looked at.
    storm.rage(at_the_site, 198)
    check_ended(storm, storm.end())
    growth = storm.growth()
    tell(storm, "files")
    memory = f"its memory grows by {growth / 1000:.1f} kB a round"
    record("200 rounds by files: the server of the last 120", 1, memory, "nothing")
    assert growth < MOST_GROWTH


def test_forty_rounds_by_s3_leave_no_object(nursery: Nursery, trainings: Path, tmp_path: Path) -> None:
    s3 = S3Server.start(tmp_path / "s3")
    try:
        bucket = s3.bucket("models")
        s3.client().put_object(Bucket=bucket, Key="somebody/else", Body=b"keep")
        comm = {
            "s3_configs": {
                "enable_s3": True,
                "s3_bucket": bucket,
                "s3_creds_file": str(s3.credentials),
                "endpoint_url": s3.url,
            }
        }
        control = {"slots": 2, "inline_limit_bytes": 0}
        federation = counted(
            tmp_path / "p", trainings, rounds=40, control_configs=control, fault_tolerance_configs=PATIENT
        )
        federation.client = {number: {"comm_configs": comm} for number in range(federation.clients)}
        storm = Storm(Bench.make(nursery, trainings, federation).fresh("storm"), random.Random(7), every=25)

        def remove_object() -> None:
            keys = [key for key in s3.keys(bucket) if key != "somebody/else"]
            if keys:
                s3.client().delete_object(Bucket=bucket, Key=storm.dice.choice(keys))

        storm.start()
        faults = {
            "worker SIGKILLed": storm.kill_worker,
            "server SIGKILLed": storm.kill_server,
            "server interrupted (SIGINT)": storm.interrupt_server,
            "object removed from the bucket": remove_object,
            "outbox, claims and checkpoints removed": storm.purge,
        }
        storm.rage(faults, 39)
        check_ended(storm, storm.end())
        assert s3.keys(bucket) == ["somebody/else"]
        assert s3.uploads(bucket) == []
        tell(storm, "S3")
    finally:
        s3.stop()
