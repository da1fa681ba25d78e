"""Connections for pushed results: one a task group, closed without waiting, and not for what sites make up."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture

from appfl_gc.control.globus_compute.sending.sdk_internals import MOST_UNWATCHED, ResultWatchers, _Watcher

GROUP = uuid.uuid4()


@dataclass
class StuckClient:
    """Its request for the address of the queue takes until ``go``, and fails then."""

    asked: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def get_result_amqp_url(self) -> dict[str, str]:
        self.asked.set()
        self.go.wait(60)
        raise OSError("no address")


@pytest.fixture
def client() -> Iterator[StuckClient]:
    client = StuckClient()
    yield client
    client.go.set()


def test_simultaneous_submissions_share_one_watcher(client: StuckClient) -> None:
    watchers, together = ResultWatchers(), threading.Barrier(16)

    def watcher() -> object:
        together.wait(10)
        return watchers.of(GROUP, client, None)

    with ThreadPoolExecutor(16) as pool:
        found = {job.result() for job in [pool.submit(watcher) for _ in range(16)]}
    assert len(found) == 1
    watchers.close()


def test_nothing_waits_for_a_request_of_a_watcher(client: StuckClient) -> None:
    watchers = ResultWatchers()
    watcher = watchers.of(GROUP, client, None)
    assert client.asked.wait(10)
    begun = time.monotonic()
    assert watcher.watch_for_task_results(None, [watched()]) == 1
    watchers.retire([str(GROUP)])
    assert watcher.watch_for_task_results(None, [watched()]) == 0
    assert watchers.of(GROUP, client, None) is not watcher
    watchers.close()
    assert time.monotonic() - begun < 5


def test_the_end_of_the_process_finds_no_watcher_to_wait_for(client: StuckClient) -> None:
    watchers = ResultWatchers()
    first = watchers.of(GROUP, client, None)
    watchers.close()
    assert GROUP not in sdk_executor._RESULT_WATCHERS
    assert isinstance(first, threading.Thread) and first.daemon
    # A request that was under way when the run ended asks for a watcher only now.
    late = watchers.of(GROUP, client, None)
    assert not isinstance(late, threading.Thread) and late.watch_for_task_results(None, [watched()]) == 0
    assert GROUP not in sdk_executor._RESULT_WATCHERS


class Nacks:
    """A channel that remembers what was refused."""

    def __init__(self) -> None:
        self.refused: list[tuple[int, bool]] = []

    def basic_nack(self, tag: int, requeue: bool = True) -> None:
        self.refused.append((tag, requeue))


def test_an_invalid_result_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    valid = json.loads(messagepack.pack(Result(task_id=uuid.uuid4(), data="x"))[1:])
    wrong = json.dumps({**valid, "data": {**valid["data"], "details": "\x1b[2J" + 10_000 * "oops"}})
    deep = "[" * 100_000 + "]" * 100_000
    other = messagepack.pack(Result(task_id=uuid.uuid4(), data="x"))[:1] + b'{"message_type": "unknown"}'
    watcher, channel = _Watcher(GROUP, None, None), Nacks()
    caplog.set_level(logging.DEBUG)
    for tag, body in enumerate((b"\x01" + wrong.encode(), b"\x01" + deep.encode(), other, b"")):
        watcher._on_message(channel, SimpleNamespace(delivery_tag=tag), None, body)
    assert channel.refused == [(tag, False) for tag in range(4)]
    assert not watcher._received_results and not watcher._to_ack
    mine = [record.getMessage() for record in caplog.records if record.threadName == "MainThread"]
    assert len(mine) == 4 and max(map(len, mine)) < 500
    assert all(line.isprintable() for line in mine)


def test_results_that_nobody_waits_for_do_not_pile_up() -> None:
    watcher, channel = _Watcher(GROUP, None, None), Nacks()
    ours = watched()
    watcher._open_futures[str(ours.task_id)] = ours
    tasks = [str(ours.task_id), *(str(uuid.uuid4()) for _ in range(3 * MOST_UNWATCHED))]
    for tag, task in enumerate(tasks):
        body = messagepack.pack(Result(task_id=uuid.UUID(task), data="x"))
        watcher._on_message(channel, SimpleNamespace(delivery_tag=tag), None, body)
    assert list(watcher._received_results) == [tasks[0], *tasks[-MOST_UNWATCHED:]]
    assert watcher._to_ack == list(range(len(tasks))) and not channel.refused


def watched() -> ComputeFuture:
    """A future of a task at the service."""
    return ComputeFuture(str(uuid.uuid4()))
