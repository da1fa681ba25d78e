"""One server runs a run: real processes take the lease, are killed, stand still, and contend for it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.protocol.errors import StorageError
from appfl_gc.runner import lease as lease_module
from appfl_gc.runner.lease import (
    LEASES,
    STOP_FILE,
    Holder,
    Lease,
    LeaseHeldError,
    holder,
    request_stop,
    written,
)

PERIOD = 0.5
DEADLINE = 30.0
OTHER_HOST = "another boot pid:[1]"

TAKER = """
import sys, time
from pathlib import Path
from appfl_gc.site import process
from appfl_gc.runner.lease import Lease, LeaseHeldError

directory, elsewhere = Path(sys.argv[1]), sys.argv[2]
if elsewhere:  # as a process of another host
    process._host = lambda: elsewhere
print("ready", flush=True)
sys.stdin.readline()
try:
    with Lease(directory, lambda words: print("lost", flush=True), period=float(sys.argv[3])):
        print("taken", flush=True)
        sys.stdin.readline()
except LeaseHeldError as error:
    print("held", error.message, flush=True)
"""


class Taker:
    """A process that takes the lease when told to."""

    def __init__(self, directory: Path, elsewhere: str = "", period: float = PERIOD) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKER, str(directory), elsewhere, str(period)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.says() == "ready"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        """End it without reaping it: it stays a zombie, as below a shell that does not wait."""
        os.kill(self.process.pid, signal.SIGKILL)

    def reap(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Callable[..., Taker]]:
    made: list[Taker] = []

    def make(elsewhere: str = "", period: float = PERIOD) -> Taker:
        made.append(Taker(tmp_path, elsewhere, period))
        return made[-1]

    yield make
    for one in made:
        one.reap()


def unlost(words: str) -> None:
    raise AssertionError(words)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def started_at(ticks: int, **of_process: str) -> Holder:
    """This process, but for when it started and for what else is given."""
    mine = Holder.here()
    return dataclasses.replace(mine, process=dataclasses.replace(mine.process, started=ticks, **of_process))


def now(directory: Path) -> Holder:
    found = written(directory)
    assert found is not None
    return found


def leave(directory: Path, content: str, number: int = 1) -> Path:
    """A lease with this content, as of an earlier process."""
    path = directory / LEASES / f"{number}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def test_it_is_renewed_and_goes_with_the_block(tmp_path: Path) -> None:
    with Lease(tmp_path, unlost, period=PERIOD) as lease:
        found = holder(tmp_path)
        assert found is not None
        assert found.process.pid == os.getpid()
        until(lambda: now(tmp_path).counter >= found.counter + 2)
        lease.confirm()
    assert now(tmp_path).over
    assert holder(tmp_path, unlost) is None
    with Lease(tmp_path, unlost, tell=unlost):
        assert now(tmp_path).token != found.token


def test_a_run_that_somebody_runs_is_refused_with_who_it_is(
    tmp_path: Path, taker: Callable[..., Taker]
) -> None:
    first = taker()
    first.go()
    assert first.says() == "taken"
    with pytest.raises(LeaseHeldError) as refused, Lease(tmp_path, unlost):
        pass
    assert f"The run {tmp_path} is being run by process {first.process.pid} on " in refused.value.message
    assert refused.value.hint


def test_after_sigkill_it_is_free_at_once_even_if_nobody_has_reaped_the_process(
    tmp_path: Path, taker: Callable[..., Taker]
) -> None:
    first = taker(period=100.0)
    first.go()
    assert first.says() == "taken"
    assert holder(tmp_path, period=100.0) is not None
    first.kill()
    until(lambda: holder(tmp_path, unlost, period=100.0) is None)
    with Lease(tmp_path, unlost, tell=unlost, period=100.0):
        assert now(tmp_path).process.pid == os.getpid()


def test_another_process_with_the_number_of_a_dead_one_is_not_the_holder(tmp_path: Path) -> None:
    earlier = started_at(1)
    leave(tmp_path, json.dumps(earlier.to_json()))
    assert holder(tmp_path, unlost) is None


def test_a_living_server_on_another_host_is_found_by_its_renewals(
    tmp_path: Path, taker: Callable[..., Taker]
) -> None:
    far = taker(OTHER_HOST)
    far.go()
    assert far.says() == "taken"
    told: list[str] = []
    found = holder(tmp_path, told.append, PERIOD)
    assert found is not None
    assert found.process.pid == far.process.pid
    assert "Waiting up to" in told[0]
    with pytest.raises(LeaseHeldError), Lease(tmp_path, unlost, period=PERIOD):
        pass


def test_a_dead_server_on_another_host_is_replaced_after_three_periods(
    tmp_path: Path, taker: Callable[..., Taker]
) -> None:
    far = taker(OTHER_HOST)
    far.go()
    assert far.says() == "taken"
    far.reap()
    began = time.monotonic()
    with Lease(tmp_path, unlost, period=PERIOD):
        assert time.monotonic() - began >= 3 * PERIOD
        assert now(tmp_path).process.pid == os.getpid()


def test_what_a_crash_has_left_of_the_file_is_watched_and_then_replaced(tmp_path: Path) -> None:
    leave(tmp_path, "\0\0\0")
    told: list[str] = []
    with Lease(tmp_path, unlost, tell=told.append, period=PERIOD):
        assert now(tmp_path).process.pid == os.getpid()
    assert len(told) == 1


@pytest.mark.parametrize("left", ["", "dead", "elsewhere"])
def test_of_two_that_take_it_at_once_one_wins(tmp_path: Path, taker: Callable[..., Taker], left: str) -> None:
    if left:
        dead = started_at(1, **({"host": "a third"} if left == "elsewhere" else {}))
        leave(tmp_path, json.dumps(dead.to_json()))
    takers = [taker(), taker(OTHER_HOST)]
    for one in takers:
        one.go()
    said = [one.says() for one in takers]
    assert sorted(words.split()[0] for words in said) == ["held", "taken"]
    winner = takers[said.index("taken")]
    assert now(tmp_path).process.pid == winner.process.pid
    loser = takers[1 - said.index("taken")]
    assert f"process {winner.process.pid} on" in said[takers.index(loser)]


def test_of_two_that_have_both_found_it_free_one_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, json.dumps(started_at(1).to_json()))
    judge, both = lease_module._holder, threading.Barrier(2, timeout=DEADLINE)
    met = threading.local()

    def judge_at_once(*arguments: Any) -> Holder | None:
        found = judge(*arguments)
        if not hasattr(met, "other"):
            met.other = both.wait()
        return found

    monkeypatch.setattr(lease_module, "_holder", judge_at_once)

    def take() -> str:
        try:
            with Lease(tmp_path, unlost):
                both.wait()
                return "taken"
        except LeaseHeldError:
            both.wait()
            return "held"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda _: take(), range(2))) == ["held", "taken"]


def test_a_server_that_stood_still_while_another_took_over_stops(
    tmp_path: Path, taker: Callable[..., Taker]
) -> None:
    first = taker(OTHER_HOST)
    first.go()
    assert first.says() == "taken"
    first.process.send_signal(signal.SIGSTOP)
    with Lease(tmp_path, unlost, period=PERIOD):
        first.process.send_signal(signal.SIGCONT)
        assert first.says() == "lost"
        mine = now(tmp_path)
        # Its own file says so too: what it reads there no network file system keeps from it.
        assert json.loads((tmp_path / LEASES / "1.json").read_text())["token"] == mine.token
        first.go()  # it ends
        first.process.wait(DEADLINE)
        assert (now(tmp_path).token, now(tmp_path).over) == (mine.token, False)


def test_what_only_the_holder_may_write_is_refused_after_standing_still(tmp_path: Path) -> None:
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Lease(tmp_path, lost.put, period=PERIOD) as lease:
        other = dataclasses.replace(Holder.here(), token="other")
        leave(tmp_path, json.dumps(other.to_json()), number=2)
        request_stop(tmp_path, other)
        assert "was taken over by process" in lost.get(timeout=DEADLINE)
        until(lambda: _refuses(lease))
    assert (now(tmp_path).token, now(tmp_path).over) == ("other", False)
    assert (tmp_path / STOP_FILE).exists()
    assert lost.empty()


def _refuses(lease: Lease) -> bool:
    try:
        lease.confirm()
    except LeaseHeldError:
        return True
    return False


def test_a_deleted_file_is_made_again(tmp_path: Path) -> None:
    with Lease(tmp_path, unlost, period=PERIOD):
        path = tmp_path / LEASES / "1.json"
        path.unlink()
        until(path.exists)
    assert holder(tmp_path) is None


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    full = threading.Event()
    real = lease_module.write_all

    def write(descriptor: int, data: memoryview) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, data)

    monkeypatch.setattr(lease_module, "write_all", write)
    with Lease(tmp_path, unlost, tell=told.put, period=0.02):
        full.set()
        words = told.get(timeout=DEADLINE)
        assert "could not be renewed 3 times (No space left on device)" in words
        full.clear()
        seen = now(tmp_path).counter
        until(lambda: now(tmp_path).counter > seen)
        assert told.empty()


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        target = tmp_path / "gone"  # root may write everywhere
    else:
        tmp_path.chmod(0o500)
        target = tmp_path
    with pytest.raises(StorageError, match="can't be written"), Lease(target, unlost):
        pass
    tmp_path.chmod(0o700)


def test_a_request_to_stop_reaches_the_holder_it_is_for(tmp_path: Path) -> None:
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    with Lease(tmp_path, unlost, stop=asked.put, period=PERIOD):
        mine = now(tmp_path)
        request_stop(tmp_path, dataclasses.replace(mine, token="an earlier one's"))
        seen = mine.counter
        until(lambda: now(tmp_path).counter > seen + 1)
        assert asked.empty()
        request_stop(tmp_path, mine)
        assert f"process {os.getpid()} on" in asked.get(timeout=DEADLINE)
    assert not (tmp_path / STOP_FILE).exists()
