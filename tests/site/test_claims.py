"""Of two deliveries of one call, one works and the other waits; with real processes that are killed."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from appfl_gc.site.claims import Claims, Pace
from appfl_gc.site.process import Process, seconds_of_this_process, this_process
from appfl_gc.site.stopping import NeverStop, StopReason

QUICK = Pace(renew=0.05, patience=1.5, look=0.01)
PATIENT = Pace(renew=0.05, patience=600.0, look=0.01)
LOGGER = logging.getLogger("test")
SPAWN = multiprocessing.get_context("spawn")


class Ended:
    """A stop signal that says so from the start, or once it is set."""

    def __init__(self) -> None:
        self.set = False

    def reason(self) -> StopReason | None:
        return StopReason.CANCELLED if self.set else None


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def work(name: Path, journal: Path, until_file: Path | None, pace: Pace = PATIENT) -> None:
    """Hold the claim, note begin and end, and meanwhile wait for a file."""
    with Claims(name, LOGGER, pace).held(NeverStop()):
        note(journal, f"begin {os.getpid()}")
        while until_file is not None and not until_file.exists():
            time.sleep(0.01)
        note(journal, f"end {os.getpid()}")


def note(journal: Path, line: str) -> None:
    fd = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def lines(journal: Path) -> list[str]:
    return journal.read_text().splitlines() if journal.exists() else []


@pytest.fixture
def name(tmp_path: Path) -> Path:
    return tmp_path / "outbox" / "run" / "client" / "00000001-train"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@contextlib.contextmanager
def worker(*arguments: object) -> Iterator[BaseProcess]:
    process = SPAWN.Process(target=work, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def test_a_second_worker_waits_for_the_first(name: Path, journal: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with worker(name, journal, go) as first:
        until(lambda: lines(journal))
        with worker(name, journal, None) as second:
            until(lambda: second.is_alive())
            mine = threading.Thread(target=work, args=(name, journal, None))
            mine.start()
            assert lines(journal) == [f"begin {first.pid}"]
            go.touch()
            second.join(60)
            mine.join(60)
    begins, ends = lines(journal)[::2], lines(journal)[1::2]
    assert [line.split()[1] for line in begins] == [line.split()[1] for line in ends], "one after the other"
    assert len(begins) == 3
    assert list(name.parent.iterdir()) == [], "nothing is left behind"


def test_a_killed_worker_is_followed_at_once(name: Path, journal: Path) -> None:
    with worker(name, journal, Path("never")) as first:
        until(lambda: lines(journal))
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        # Not reaped: its parent has not asked for it, as a busy manager.
        begun = time.monotonic()
        work(name, journal, None)
        assert time.monotonic() - begun < 60, "long before its patience of 600 s ends"
    assert lines(journal)[1:] == [f"begin {os.getpid()}", f"end {os.getpid()}"]
    assert list(name.parent.iterdir()) == []


def test_of_many_that_take_over_one_works_at_a_time(name: Path, journal: Path) -> None:
    with worker(name, journal, Path("never")) as first:
        until(lambda: lines(journal))
        first.kill()
        first.join()
    threads = [threading.Thread(target=critical, args=(name, journal)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    words = [line.split()[0] for line in lines(journal)][1:]
    assert words == ["begin", "end"] * 12
    assert list(name.parent.iterdir()) == []


def critical(name: Path, journal: Path) -> None:
    with Claims(name, LOGGER, PATIENT).held(NeverStop()):
        note(journal, "begin")
        time.sleep(0.002)
        note(journal, "end")


def test_a_worker_of_another_host_is_followed_when_its_counter_stands_still(
    name: Path, journal: Path
) -> None:
    with worker(name, journal, Path("never"), QUICK) as first:
        until(lambda: lines(journal))
        (claim,) = name.parent.iterdir()
        elsewhere(claim)
        follower = threading.Thread(target=work, args=(name, journal, None, QUICK))
        follower.start()
        until(lambda: int(claim.read_bytes()[:12]) * QUICK.renew > 1.5 * QUICK.patience)
        assert len(lines(journal)) == 1, "as long as it is renewed it is waited for"
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        follower.join(60)
        assert lines(journal)[1:] == [f"begin {os.getpid()}", f"end {os.getpid()}"]
    assert list(name.parent.iterdir()) == []


def test_a_worker_that_lives_is_waited_for_though_its_counter_stands_still(name: Path, journal: Path) -> None:
    """As when user code holds the interpreter for minutes."""
    short = Pace(renew=0.05, patience=0.2, look=0.01)
    with worker(name, journal, Path("never"), short) as first:
        until(lambda: lines(journal))
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)
        begun = time.monotonic()
        follower = threading.Thread(target=work, args=(name, journal, None, short))
        follower.start()
        until(lambda: time.monotonic() - begun > 5 * short.patience)
        assert len(lines(journal)) == 1
        first.kill()
        follower.join(60)
        assert lines(journal)[1:] == [f"begin {os.getpid()}", f"end {os.getpid()}"]


def elsewhere(claim: Path) -> None:
    """Let a claim look like one of a process of another host."""
    content = claim.read_bytes()
    fields = json.loads(content[12:])
    fields["holder"]["host"] = "node17 boot pid"
    with claim.open("r+b") as file:
        file.seek(12)
        file.write(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"0000", b"000000000000{}", b"\xff" * 100, b"x" * 100_000],
    ids=["empty", "short", "hollow", "no text", "long"],
)
def test_a_claim_that_is_torn_is_taken_over_after_a_while(name: Path, journal: Path, content: bytes) -> None:
    name.parent.mkdir(parents=True)
    name.with_name(f"{name.name}.1.claim").write_bytes(content)
    work(name, journal, None, Pace(renew=0.05, patience=0.2, look=0.01))
    assert len(lines(journal)) == 2
    assert list(name.parent.iterdir()) == []


def test_who_is_not_wanted_waits_no_more(name: Path, journal: Path) -> None:
    signal_ = Ended()
    entered = []
    with Claims(name, LOGGER, PATIENT).held(NeverStop()):

        def wait() -> None:
            with Claims(name, LOGGER, PATIENT).held(signal_):
                entered.append(True)

        waiting = threading.Thread(target=wait)
        waiting.start()
        signal_.set = True
        waiting.join(60)
        assert entered == [True]
        assert len(list(name.parent.iterdir())) == 1, "the first one's claim stays"
    assert list(name.parent.iterdir()) == []


def test_where_no_claim_can_be_made_the_work_is_done(
    tmp_path: Path, journal: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outbox").write_text("a file where the directory was to be")
    work(tmp_path / "outbox" / "run" / "client" / "00000001-train", journal, None)
    assert len(lines(journal)) == 2
    assert "done twice" in caplog.text


def test_a_purged_claim_costs_work_and_nothing_else(name: Path, journal: Path) -> None:
    with Claims(name, LOGGER, QUICK).held(NeverStop()):
        for path in name.parent.iterdir():
            path.unlink()
        name.parent.rmdir()
        work(name, journal, None, QUICK)
        assert len(lines(journal)) == 2
    assert not name.parent.exists() or list(name.parent.iterdir()) == []


def test_who_looked_at_a_dead_claim_too_long_begins_anew(
    name: Path, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and its claim another took over and finished, and a third began."""
    with worker(name, journal, Path("never")) as first:
        until(lambda: lines(journal))
        first.kill()
        first.join()
    claims, slow_goes_on, slow_found = Claims(name, LOGGER, PATIENT), threading.Event(), threading.Event()
    found = Claims._wait_for

    def slowly(self: Claims, path: Path, stop: NeverStop) -> str | None:
        token = found(self, path, stop)
        if threading.current_thread().name == "slow" and not slow_found.is_set():
            slow_found.set()
            assert slow_goes_on.wait(60)
        return token

    monkeypatch.setattr(Claims, "_wait_for", slowly)
    slow = threading.Thread(target=critical, args=(name, journal), name="slow")
    slow.start()
    assert slow_found.wait(60)
    with claims.held(NeverStop()):
        pass
    with claims.held(NeverStop()):
        note(journal, "third begins")
        slow_goes_on.set()
        until(
            lambda: (
                not slow.is_alive()
                or sorted(path.name[-8:] for path in name.parent.iterdir()) == [".1.claim"]
            )
        )
        assert slow.is_alive(), "it waits for the third one"
        note(journal, "third ends")
    slow.join(60)
    assert lines(journal)[1:] == ["third begins", "third ends", "begin", "end"]
    assert list(name.parent.iterdir()) == []


def test_a_process_is_told_from_a_later_one_of_its_number() -> None:
    mine = this_process()
    assert mine.ended is False
    assert Process(mine.host, mine.pid, mine.started + 1).ended is True
    assert Process("elsewhere", mine.pid, mine.started).ended is None
    assert Process("", mine.pid, mine.started).ended is None
    assert Process.from_json(json.loads(json.dumps(mine.to_json()))) == mine
    age = seconds_of_this_process()
    assert age is not None and 0 < age < 86400


@pytest.mark.chaos
def test_with_workers_killed_at_random_never_two_work_at_once(name: Path, journal: Path) -> None:
    """Whoever begins before another has ended took over from a worker that was killed in between."""
    chance = random.Random(5)
    workers: list[BaseProcess] = []
    for _ in range(60):
        workers = [process for process in workers if process.is_alive()]
        while len(workers) < 5:
            workers.append(SPAWN.Process(target=keep_working, args=(name, journal)))
            workers[-1].start()
        enough = len(lines(journal)) + chance.randint(1, 9)
        until(lambda enough=enough: len(lines(journal)) >= enough)
        victim = chance.choice(workers)
        victim.kill()
        note(journal, f"killed {victim.pid}")
    for process in workers:
        process.kill()
        process.join()
    history, holder = lines(journal), ""
    killed = {line.split()[1] for line in history if line.startswith("killed")}
    for line in history:
        what, pid = line.split()
        if what == "begin":
            assert not holder or holder in killed, f"{pid} began while {holder} worked"
            holder = pid
        elif what == "end":
            assert holder == pid
            holder = ""
    assert sum(line.startswith("begin") for line in history) > 60
    assert len(list(name.parent.glob("*"))) < 20


def keep_working(name: Path, journal: Path) -> None:
    while True:
        with Claims(name, LOGGER, PATIENT).held(NeverStop()):
            note(journal, f"begin {os.getpid()}")
            time.sleep(random.uniform(0, 0.01))
            note(journal, f"end {os.getpid()}")
