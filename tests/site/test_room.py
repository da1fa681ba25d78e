"""How much a site keeps, and whose files go when that is too much."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.room import Room
from tests.site.training_calls import Server

LOGGER = logging.getLogger("room")


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "kept", "checkpoints", "It begins anew.", ".kept", ".beside")


def put(directory: Path, name: str, days: float = 0.0, size: int = 100) -> Path:
    """A file that was last used some days ago."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - days * 86400,) * 2)
    return path


def test_what_is_young_stays_however_little_room_there_is(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    mine, other = (put(room.directory, f"run/{client}/1.kept") for client in "AB")
    room.keep_within(OutboxLimits(max_bytes=100), mine, LOGGER)
    assert mine.exists()
    assert other.exists(), "another client may go on from it"
    assert "200 bytes of checkpoints, which is more than the 100 of max_bytes" in caplog.text


def test_for_want_of_room_the_least_lately_used_goes_and_the_log_says_so(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    oldest, older, old = (put(room.directory, f"run/{days}/1.kept", days) for days in (4, 3, 2))
    room.keep_within(OutboxLimits(max_bytes=250), None, LOGGER)
    assert [path.exists() for path in (oldest, older, old)] == [False, True, True]
    assert "removed 1 of its checkpoints (100 bytes, not used for 4.0 days or longer)" in caplog.text
    assert "It begins anew." in caplog.text
    caplog.clear()
    room.keep_within(OutboxLimits(max_bytes=250), None, LOGGER)
    assert caplog.text == "", "there is room for these"


def test_the_age_that_the_owner_allows_holds_for_young_ones_too(room: Room) -> None:
    path = put(room.directory, "run/A/1.kept", 0.5)
    room.keep_within(OutboxLimits(max_days=0.4), None)
    assert not path.exists()
    assert list(room.directory.iterdir()) == []


def test_a_second_file_counts_and_goes_with_the_first(room: Room) -> None:
    first, second = (put(room.directory, f"run/A/1.{suffix}", 3) for suffix in ("kept", "beside"))
    room.keep_within(OutboxLimits(max_bytes=200), None)
    assert second.exists()
    room.keep_within(OutboxLimits(max_bytes=199), None)
    assert not first.exists()
    assert not second.exists()


def test_what_a_killed_worker_left_goes_after_a_day(room: Room) -> None:
    """Also a second file without its first, as of an outbox whose worker was killed between the two."""
    put(room.directory, "run/A/1.kept")
    for days in (0.5, 2):
        for name in (".2.kept.7.part", "2.beside", "2.claim"):
            put(room.directory, f"run/A/{days:.0f}{name}", days)
    second = put(room.directory, "run/A/1.beside", 2)
    room.keep_within(OutboxLimits(), None)
    left = {path.name for path in second.parent.iterdir()}
    assert left == {"1.kept", "1.beside", "0.2.kept.7.part", "02.beside", "02.claim"}


def test_what_made_room_shows_in_the_clients_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "site.yaml"
    policy.write_text("outbox: {max_bytes: 1, max_days: 14}")
    monkeypatch.setenv("APPFL_GC_SITE_HOME", str(tmp_path))
    monkeypatch.setenv("APPFL_GC_SITE_STATE", str(tmp_path))
    monkeypatch.setenv("APPFL_GC_SITE_POLICY", str(policy))
    monkeypatch.chdir(tmp_path)
    old, young = (
        [
            put(tmp_path, f"{name}/run/{client}/00000001{suffix}", days)
            for name, suffix in (
                ("checkpoints", ".checkpoint"),
                ("clients", ".safetensors"),
                ("outbox", "-x.json"),
            )
        ]
        for client, days in (("B", 2.0), ("C", 0.5))
    )
    log = Server("IIADMMTrainer", configs={"checkpoint_steps": 1}).train(1, 0).log
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)
    for what in ("checkpoints", "clients' states", "answers that no server has acknowledged"):
        assert f"removed 1 of its {what}" in log
