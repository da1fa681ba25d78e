"""Whether a call's work is to go on: by its mailbox, and by the end of its worker's job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appfl_gc.payload.file_store import FileStore
from appfl_gc.payload.mailbox.base import ServerMailbox, TaskProgress
from appfl_gc.payload.mailbox.making import mailbox_from_grant
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.wire import WireError
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.watch import JobEnd, Watch, watch_over

LOOK = 0.02


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def server(tmp_path: Path) -> ServerMailbox:
    return FileStore(tmp_path / "payloads").mailbox()


def watch(server: ServerMailbox, end: JobEnd | None = None) -> Watch:
    return Watch(mailbox_from_grant(server.grant), end, LOOK)


def test_a_task_hears_that_nobody_waits_for_it_any_more(server: ServerMailbox) -> None:
    with watch(server) as signal:
        assert signal.reason() is None
        server.remove()
        until(lambda: signal.reason() is StopReason.CANCELLED)


def test_a_call_that_waited_too_long_in_a_queue_knows_at_once(server: ServerMailbox) -> None:
    server.remove()
    with watch(server) as signal:
        assert signal.reason() is StopReason.CANCELLED


def test_the_server_hears_how_far_a_task_is_and_nothing_after_its_end(
    server: ServerMailbox, tmp_path: Path
) -> None:
    with watch(server) as signal:
        for steps in (3, 8):
            signal.reached(steps, 10)
            until(lambda steps=steps: server.progress() == TaskProgress(steps, 10))
        signal.reached(10, 10)
    server.remove()
    assert list((tmp_path / "payloads").iterdir()) == [], "no progress comes after the mailbox went"


def test_a_task_stops_a_margin_before_its_job_ends() -> None:
    begun = time.monotonic()
    with Watch(None, JobEnd(lambda: 60.3, margin=60.0), LOOK) as signal:
        until(lambda: signal.reason() is StopReason.WALLTIME)
        assert 0.2 < time.monotonic() - begun < 30
    with Watch(None, JobEnd(lambda: 59.0, margin=60.0), LOOK) as signal:
        assert signal.reason() is StopReason.WALLTIME
    with Watch(None, JobEnd(lambda: None), LOOK) as signal:
        assert signal.reason() is None


def test_a_batch_system_that_must_be_asked_is_asked_at_its_pace_and_not_by_the_task(
    server: ServerMailbox,
) -> None:
    asked = []
    answers = threading.Event()

    def left() -> float:
        asked.append(threading.current_thread().name)
        assert answers.wait(60)
        return 1.0

    with watch(server, JobEnd(left, slow=True)) as signal:
        assert signal.reason() is None
        answers.set()
        until(lambda: signal.reason() is StopReason.WALLTIME)
        signal.reached(1, 2)
        until(server.progress)
    assert asked == ["appfl-gc-watch"]


def test_a_batch_system_that_gave_no_answer_is_asked_again() -> None:
    answers = iter([None, None, 1.0])
    end = JobEnd(lambda: next(answers, 1.0), slow=True, margin=60.0, again=0.05)
    with Watch(None, end, LOOK) as signal:
        until(lambda: signal.reason() is StopReason.WALLTIME)


def test_a_job_that_was_given_more_time_is_asked_about_before_the_task_stops() -> None:
    asked = []

    def left() -> float | None:
        asked.append(time.monotonic())
        return (60.6, 1000.0, None)[min(len(asked), 3) - 1]

    with Watch(None, JobEnd(left, slow=True, margin=60.0, again=0.05), LOOK) as signal:
        until(lambda: len(asked) == 2)
        assert asked[1] - asked[0] > 0.2, "not without end"
        until(lambda: time.monotonic() - asked[0] > 1.0)
        assert signal.reason() is None
    assert len(asked) == 2, "half of a long time later"


def test_an_answer_that_does_not_come_takes_nothing_back() -> None:
    asked = []

    def left() -> float | None:
        asked.append(True)
        return 60.0 if len(asked) == 1 else None

    with Watch(None, JobEnd(left, slow=True, margin=60.0, again=0.01), LOOK) as signal:
        until(lambda: len(asked) == 3)
        assert signal.reason() is StopReason.WALLTIME


def test_cancelled_counts_before_the_end_of_the_job(server: ServerMailbox) -> None:
    server.remove()
    with watch(server, JobEnd(lambda: 0.0)) as signal:
        assert signal.reason() is StopReason.CANCELLED


def call(**args: object) -> Call:
    return Call(CallId("run", 1, "A"), "trainer.train", args)  # type: ignore[arg-type]


def test_a_call_is_watched_as_it_says(server: ServerMailbox) -> None:
    end = str(int(time.time()) + 100)
    configured = {"train_configs": {"walltime_margin_seconds": 200}}
    with watch_over(call(mailbox=server.grant, config=configured), {"SLURM_JOB_END_TIME": end}) as signal:
        assert signal.reason() is StopReason.WALLTIME
    with watch_over(call(mailbox=server.grant), {"SLURM_JOB_END_TIME": end}) as signal:
        assert signal.reason() is None
    with watch_over(call(config={"train_configs": {"walltime_seconds": 1e9}}), {}) as signal:
        assert signal.reason() is None
    server.remove()
    with watch_over(call(mailbox=server.grant), {"APPFL_GC_SITE_LOOK_SECONDS": "0.1"}) as signal:
        assert signal.reason() is StopReason.CANCELLED


@pytest.mark.parametrize(
    "args",
    [
        {"mailbox": 3},
        {"mailbox": {"scheme": "carrier pigeon"}},
        {"config": {"train_configs": {"walltime_seconds": "10:00:00"}}},
        {"config": {"train_configs": {"walltime_margin_seconds": -1}}},
    ],
)
def test_a_malformed_call_is_refused(args: dict[str, object]) -> None:
    with pytest.raises(WireError):
        watch_over(call(**args), {})
