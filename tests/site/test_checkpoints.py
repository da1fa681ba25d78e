"""The files from which interrupted tasks go on."""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import stat
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appfl_gc.payload import checksum
from appfl_gc.protocol.identity import CallId
from appfl_gc.site.checkpoints import HEADER, Checkpointer
from appfl_gc.site.policy import OutboxLimits

STATE: dict[str, Any] = {
    "tensor": torch.arange(6.0).reshape(2, 3).T,
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "numbers": [1, 2.5, float("inf"), None, True, 2**90],
    "python": random.Random(3).getstate(),
    5: {"text": "x", "pair": (1, torch.zeros(2))},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "checkpoints"


def checkpointer(directory: Path, dispatch: int = 3, request: str = "request", **parts: Any) -> Checkpointer:
    identity = CallId(parts.pop("run", "run"), dispatch, parts.pop("client", "A"), parts.pop("attempt", 1))
    limits = parts.pop("limits", OutboxLimits())
    return Checkpointer.of(directory, identity, request, limits, logging.getLogger("checkpoints"))


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_another_attempt_reads_what_was_written_bit_by_bit(directory: Path) -> None:
    assert checkpointer(directory).load() is None
    assert checkpointer(directory).save(STATE, 7)
    later = checkpointer(directory, attempt=2)
    found = later.load()
    assert found is not None
    assert later.steps == later.kept_steps() == 7
    assert torch.equal(found["tensor"], STATE["tensor"])
    assert found["tensor"].stride() == STATE["tensor"].stride()
    assert found["half"].dtype == torch.bfloat16
    assert found["numbers"] == STATE["numbers"]
    assert found["python"] == STATE["python"]
    assert found[5]["pair"][0] == 1


def test_a_newer_one_takes_the_place_and_forgetting_leaves_nothing(directory: Path) -> None:
    first = checkpointer(directory)
    first.save({"n": 1}, 7)
    first.save({"n": 2}, 9)
    assert len(files(directory)) == 1
    later = checkpointer(directory)
    assert later.load() == {"n": 2}
    later.forget()
    assert later.steps == later.kept_steps() == 0
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [{"run": "other"}, {"client": "B"}, {"dispatch": 4}, {"request": "other"}],
    ids=lambda other: next(iter(other)),
)
def test_nothing_else_goes_on_from_it(directory: Path, other: dict[str, Any]) -> None:
    checkpointer(directory).save(STATE, 7)
    stranger = checkpointer(directory, **other)
    assert stranger.load() is None
    assert stranger.steps == stranger.kept_steps() == 0


def test_nobody_else_on_the_machine_can_read_it(directory: Path) -> None:
    checkpointer(directory).save(STATE, 7)
    (path,) = files(directory)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(above.stat().st_mode) == 0o700 for above in list(path.parents)[:3])


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_told_and_removed(
    directory: Path, caplog: pytest.LogCaptureFixture, place: float, bit: int, cut: bool
) -> None:
    checkpointer(directory).save(STATE, 7)
    (path,) = files(directory)
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path.write_bytes(data)
    caplog.clear()
    later = checkpointer(directory)
    found = later.load()
    if not cut and at < HEADER and found is not None:
        # A bit of the header that says nothing, or another number of steps.
        assert torch.equal(found["tensor"], STATE["tensor"])
        return
    assert found is None
    assert "can't be used, so the task begins anew" in caplog.text
    assert files(directory) == []
    assert later.steps == 0


def rewritten(path: Path, body: bytes | None = None, **about: Any) -> None:
    data = path.read_bytes()
    begin = data.index(b"{")
    header = json.loads(data[begin:HEADER])
    if body is not None:
        header.update(size=len(body), checksum=checksum.of(memoryview(body)))
    header.update(about)
    text = data[:begin] + json.dumps(header).encode()
    path.write_bytes(text.ljust(HEADER) + (data[HEADER:] if body is None else body))


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"version": 2}, "version 2 of its format"),
        ({"torch": "0.1"}, "another version of torch"),
        ({"python": "2.7"}, "another version of torch or Python"),
        ({"steps": -1}, "number of steps"),
        ({"size": 1}, "torn"),
    ],
)
def test_a_file_of_another_program_is_not_used(
    directory: Path, caplog: pytest.LogCaptureFixture, about: dict[str, Any], why: str
) -> None:
    checkpointer(directory).save(STATE, 7)
    rewritten(files(directory)[0], **about)
    assert checkpointer(directory).load() is None
    assert why in caplog.text


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["torch", "pickle", "nonsense", "list"])
def test_a_forged_file_executes_nothing(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    checkpointer(directory).save(STATE, 7)
    (path,) = files(directory)
    mark, body = tmp_path / "executed", tmp_path / "body"
    if how in {"torch", "list"}:
        torch.save({"state": Bomb(mark)} if how == "torch" else [1], body)
    else:
        body.write_bytes(pickle.dumps(Bomb(mark), protocol=2) if how == "pickle" else b"nonsense" * 100)
    rewritten(path, body.read_bytes())
    assert checkpointer(directory).load() is None
    assert not mark.exists()
    assert "begins anew" in caplog.text


def test_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    checkpointer(directory).save(STATE, 7)
    (path,) = files(directory)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert checkpointer(directory).load() is None


def test_what_cannot_be_written_is_told_once_it_happens_and_harms_nothing(
    directory: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = checkpointer(directory)
    task.save({"n": 1}, 7)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("appfl_gc.payload.files.os.write", full)
    assert not task.save({"n": 2}, 9)
    monkeypatch.undo()
    assert "can't be written: No space left on device" in caplog.text
    assert task.steps == 7
    assert checkpointer(directory).load() == {"n": 1}
    assert len(files(directory)) == 1


class TestWhen:
    def test_it_is_due_after_so_many_steps(self, directory: Path) -> None:
        task = checkpointer(directory)
        task.pace(3, None)
        assert [task.due(steps) for steps in (1, 2, 3)] == [False, False, True]
        task.save({}, 3)
        assert [task.due(steps) for steps in (4, 5, 6)] == [False, False, True]
        later = checkpointer(directory)
        later.pace(3, None)
        later.load()
        assert [later.due(steps) for steps in (4, 5, 6)] == [False, False, True]

    def test_it_is_due_after_so_many_seconds(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr("appfl_gc.site.checkpoints.time.monotonic", lambda: now)
        task = checkpointer(directory)
        task.pace(None, 10.0)
        now += 9.0
        assert not task.due(500)
        now += 1.0
        assert task.due(501)
        task.save({}, 501)
        assert not task.due(502)

    def test_never(self, directory: Path) -> None:
        task = checkpointer(directory)
        task.pace(None, None)
        assert not task.due(10**9)


class TestRoom:
    def test_a_clients_later_task_leaves_only_its_own(self, directory: Path) -> None:
        checkpointer(directory, 3).save(STATE, 7)
        checkpointer(directory, 3, client="B").save(STATE, 7)
        checkpointer(directory, 5, "earlier").save(STATE, 7)
        checkpointer(directory, 5).load()
        assert [path.name[:8] for path in files(directory)] == ["00000003"]
        assert checkpointer(directory, 3, client="B").kept_steps() == 7

    def test_those_of_a_later_task_stay(self, directory: Path) -> None:
        checkpointer(directory, 5).save(STATE, 7)
        checkpointer(directory, 3).load()
        assert checkpointer(directory, 5).kept_steps() == 7

    def test_the_least_lately_used_go_first(self, directory: Path) -> None:
        checkpointer(directory).save(STATE, 1)
        size = files(directory)[0].stat().st_size
        limits = OutboxLimits(max_bytes=2 * size + 100)
        for days, client in ((3, "A"), (2, "B")):
            task = checkpointer(directory, client=client)
            task.save(STATE, 1)
            os.utime(task.path, (time.time() - days * 86400,) * 2)
        checkpointer(directory).load()  # A is used again
        checkpointer(directory, client="C", limits=limits).save(STATE, 1)
        assert [checkpointer(directory, client=name).kept_steps() for name in "ABC"] == [1, 0, 1]

    def test_old_ones_and_torn_ones_go(self, directory: Path) -> None:
        old = checkpointer(directory, client="A")
        old.save(STATE, 1)
        torn = old.path.with_name(".torn.part")
        torn.write_bytes(b"x")
        for path in (old.path, torn):
            os.utime(path, (time.time() - 3 * 86400,) * 2)
        checkpointer(directory, client="B", limits=OutboxLimits(max_days=2)).save(STATE, 1)
        assert [path.parent.parent for path in files(directory)] == [old.path.parent.parent]
        assert old.kept_steps() == 0

    def test_the_current_one_stays_however_large(self, directory: Path) -> None:
        task = checkpointer(directory, limits=OutboxLimits(max_bytes=1))
        assert task.save(STATE, 1)
        assert task.kept_steps() == 1
