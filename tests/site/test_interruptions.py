"""Training calls that are delivered twice, stopped, killed, or not wanted any more; as a server sends them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from appfl_gc.payload.file_store import FileStore
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.reply import Reply
from appfl_gc.site.entry import appfl_gc_entry
from tests.site.training_calls import REQUIRES, Server, same

SPAWN = multiprocessing.get_context("spawn")
TRAINER = """\
import os
import pathlib
import time

from appfl_gc.site.trainer.vanilla import VanillaTrainer


class NotingTrainer(VanillaTrainer):
    def train(self, **kwargs):
        with open(self.train_configs["journal"], "a") as journal:
            journal.write(f"{os.getpid()}\\n")
        go = pathlib.Path(self.train_configs["go"])
        while not go.exists():
            time.sleep(0.01)
        return super().train(**kwargs)
"""
LONG = 100_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLURM_JOB_END_TIME", "PBS_JOBID", "APPFL_GC_SITE_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("APPFL_GC_SITE_HOME", str(tmp_path / "site"))
    monkeypatch.setenv("APPFL_GC_SITE_LOOK_SECONDS", "0.05")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mailboxes(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "payloads")


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(call: Any) -> Reply:
    reply = Reply.from_json(json.loads(json.dumps(appfl_gc_entry(call.to_json(), REQUIRES))))
    reply.check_answers(call)
    return reply


def deliver(message: dict[str, Any]) -> None:
    appfl_gc_entry(message, REQUIRES)


@contextmanager
def other_worker(message: dict[str, Any]) -> Iterator[BaseProcess]:
    process = SPAWN.Process(target=deliver, args=(message,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


class Noting:
    """A client whose trainer notes each training and waits for a file."""

    def __init__(self, directory: Path) -> None:
        self.journal, self.go = directory / "journal", directory / "go"
        configs = {"journal": str(self.journal), "go": str(self.go)}
        self.server = Server("NotingTrainer", TRAINER, configs)

    @property
    def trainings(self) -> list[int]:
        return [int(line) for line in self.journal.read_text().split()] if self.journal.exists() else []


def test_a_second_delivery_does_not_train_but_waits_and_answers_the_same(home: Path) -> None:
    client = Noting(home)
    with other_worker(client.server.call(1, 0).to_json()) as first:
        until(lambda: client.trainings)
        answers = []
        second = threading.Thread(target=lambda: answers.append(client.server.train(1, 0, attempt=2)))
        second.start()
        until(lambda: any("Another worker is at this call" in line for line in logged(home)))
        client.go.touch()
        second.join(120)
        first.join(120)
    assert client.trainings == [first.pid]
    assert same(answers[0], client.server.train(1, 0, attempt=3))
    assert "was answered before" in answers[0].log
    assert not list((home / "site" / "outbox").rglob("*.claim"))


def logged(home: Path) -> list[str]:
    return [line for path in home.glob("output/*.txt") for line in path.read_text().splitlines()]


def test_a_delivery_to_a_killed_worker_is_trained_by_the_next_at_once(home: Path) -> None:
    client = Noting(home)
    with other_worker(client.server.call(1, 0).to_json()) as first:
        until(lambda: client.trainings)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        client.go.touch()
        begun = time.monotonic()
        trained = client.server.train(1, 0, attempt=2)
        assert time.monotonic() - begun < 25, "long before a claim that is not renewed counts as left"
    assert client.trainings == [first.pid, os.getpid()]
    assert "ended without an answer" in trained.log


def test_an_answer_of_this_attempt_counts_although_it_was_to_be_computed_again(home: Path) -> None:
    client = Noting(home)
    client.go.touch()
    client.server.train(1, 0)
    client.server.train(1, 0, attempt=2, compute_again=True)
    assert len(client.trainings) == 2, "what the first attempt sent was of no use"
    client.server.train(1, 0, attempt=2, compute_again=True)
    assert len(client.trainings) == 2, "the same call, delivered twice"


def test_where_nothing_can_be_kept_the_call_is_answered_all_the_same(home: Path) -> None:
    (home / "site").mkdir()
    (home / "site" / "outbox").write_text("not a directory")
    trained = Server("VanillaTrainer").train(1, 0)
    assert "takes no claims" in trained.log
    (home / "site" / "outbox").unlink()
    assert same(trained, Server("VanillaTrainer").train(1, 0))


def test_a_call_that_is_not_wanted_any_more_builds_nothing(home: Path, mailboxes: FileStore) -> None:
    client, mailbox = Noting(home), mailboxes.mailbox()
    mailbox.remove()
    reply = ask(client.server.call(1, 0, mailbox=mailbox.grant))
    assert reply.error is not None and reply.error.error_class is ErrorClass.CANCELLED
    assert client.trainings == [] and not any("dataset is built" in line for line in reply.log)
    client.go.touch()
    client.server.train(1, 0, attempt=2, mailbox=mailboxes.mailbox().grant)
    assert client.trainings == [os.getpid()], "and it was not taken for the call's answer"


def cancel_after(mailbox: ServerMailbox, steps: int) -> threading.Thread:
    def cancel() -> None:
        until(lambda: (told := mailbox.progress()) is not None and told.steps >= steps)
        mailbox.remove()

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


def test_a_cancelled_task_stops_and_goes_on_from_there_when_it_is_asked_again(
    home: Path, mailboxes: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = mailboxes.mailbox()
    server = Server("VanillaTrainer", configs={"num_local_steps": LONG})
    cancelling = cancel_after(mailbox, 1)
    reply = ask(server.call(1, 0, mailbox=mailbox.grant))
    cancelling.join(120)
    assert reply.error is not None and reply.error.error_class is ErrorClass.CANCELLED
    done = reply.values["checkpoint_steps"]
    assert isinstance(done, int) and 0 < done < LONG
    assert reply.payloads == {}
    assert list(mailboxes.directory.iterdir()) == []

    # Another attempt, which the end of its job stops.
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 63))
    reply = ask(server.call(1, 0, attempt=2))
    assert reply.error is not None and reply.error.error_class is ErrorClass.WALLTIME
    further = reply.values["checkpoint_steps"]
    assert isinstance(further, int) and further > done


def test_a_task_in_parts_ends_with_the_bits_of_one_in_one_go(
    home: Path, mailboxes: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = {"num_local_steps": 3000}
    whole = Server("VanillaTrainer", configs=configs, run="whole").train(1, 0)
    server, mailbox = Server("VanillaTrainer", configs=configs, run="whole", client="A"), mailboxes.mailbox()
    (home / "site" / "outbox").rename(home / "purged")
    cancelling = cancel_after(mailbox, 1)
    reply = ask(server.call(1, 0, mailbox=mailbox.grant))
    cancelling.join(120)
    assert reply.error is not None, "if this machine is too quick, the task needs more steps"
    rest = server.train(1, 0, attempt=2, mailbox=mailboxes.mailbox().grant)
    assert same(rest, whole)
    assert rest.metrics["resumed_steps"] == reply.values["checkpoint_steps"]
    assert not list((home / "site" / "checkpoints").rglob("*.checkpoint")), "its answer is safe"


def test_a_job_that_ends_gives_the_part_that_was_done(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = {"num_local_steps": LONG, "on_walltime": "partial", "walltime_margin_seconds": 1}
    server = Server("VanillaTrainer", configs=configs)
    Server("VanillaTrainer", run="before").train(1, 0)  # what torch imports for it takes seconds
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 5))
    reply = ask(server.call(1, 0))
    assert reply.error is None
    share, steps = reply.values["share"], reply.values["steps"]
    assert isinstance(share, float) and isinstance(steps, int) and 0 < share < 1
    assert share == pytest.approx(steps / LONG)
    assert reply.measures.steps == steps
    again = ask(server.call(1, 0, attempt=2))
    assert (again.values["share"], again.error) == (share, None), "that is the call's answer"


def test_a_job_with_no_time_left_begins_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Noting(home)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 30))
    reply = ask(client.server.call(1, 0))
    assert reply.error is not None and reply.error.error_class is ErrorClass.WALLTIME
    assert client.trainings == []
