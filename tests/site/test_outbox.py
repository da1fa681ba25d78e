"""Nothing computed is thrown away: the outbox answers a later attempt of the same call."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from appfl_gc.payload import codec
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reference import Ref
from appfl_gc.site.outbox import Outbox
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.roles.context import Answer


def make_call(round_: int = 1, attempt: int = 1, client: str = "A", **changes: object) -> Call:
    call = Call(
        CallId("run", round_, client, attempt),
        "trainer.train",
        {"config": {"lr": 0.1}},
        {"model": Ref("file", f"locator-{attempt}", 4, "xxh3-128:aa", "safetensors")},
        nonce=f"nonce-{attempt}",
        seed=1,
        threads=1,
    )
    return replace(call, **changes)  # type: ignore[arg-type]


def make_answer(steps: int = 10) -> Answer:
    return Answer({"steps": steps})


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox", OutboxLimits())


def test_a_later_attempt_gets_the_stored_answer(outbox: Outbox) -> None:
    first, second = make_call(attempt=1), make_call(attempt=2)
    outbox.store(first, make_answer())
    found = outbox.find(second)
    assert found is not None
    assert found.answer.values == {"steps": 10}


@pytest.mark.parametrize(
    "other",
    [
        make_call(round_=2),
        make_call(client="B"),
        make_call(channel="trainer.sample_size"),
        make_call(args={"config": {"lr": 0.2}}),
        make_call(seed=2),
        make_call(threads=2),
        make_call(payloads={"model": Ref("file", "locator-1", 4, "xxh3-128:bb", "safetensors")}),
    ],
    ids=["round", "client", "channel", "configuration", "seed", "threads", "model"],
)
def test_another_call_never_gets_it(outbox: Outbox, other: Call) -> None:
    outbox.store(make_call(), make_answer())
    assert outbox.find(other) is None


def test_what_differs_between_attempts_is_no_part_of_the_request(outbox: Outbox) -> None:
    outbox.store(make_call(), make_answer())
    args = {"config": {"lr": 0.1}, "acknowledged": 3, "grant": {"scheme": "s3"}, "mailbox": {"name": "x"}}
    found = outbox.find(make_call(attempt=4, args=args))
    assert found is not None and found.attempt == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("checkpoint_steps", 5),
        ("checkpoint_seconds", 1.0),
        ("on_walltime", "partial"),
        ("walltime_seconds", 3600),
        ("walltime_margin_seconds", 9),
        ("logging_output_dirname", "elsewhere"),
    ],
)
def test_how_a_task_is_interrupted_and_logged_is_no_part_of_the_request(
    outbox: Outbox, key: str, value: object
) -> None:
    """Whoever resumes with another value of these finds answer and claim, and the checkpoint, which has its name."""
    before, now = (
        make_call(attempt=attempt, args={"config": {"train_configs": {"num_local_steps": 3, **more}}})
        for attempt, more in ((1, {}), (2, {key: value}))
    )
    outbox.store(before, make_answer())
    assert outbox.find(now) is not None
    assert outbox.claims(now) == outbox.claims(before)
    other = {"config": {"train_configs": {"num_local_steps": 4, key: value}}}
    assert outbox.find(make_call(attempt=2, args=other)) is None


def test_what_a_source_file_is_called_is_no_part_of_the_request(outbox: Outbox) -> None:
    def call(attempt: int, **changes: str) -> Call:
        source = {"kind": "model", "name": "CNN", "filename": "./cnn.py", "text": "class CNN: ...", **changes}
        return make_call(attempt=attempt, args={"sources": {"model": source}})

    outbox.store(call(1), make_answer())
    renamed = call(2, filename="./models/cnn.py")
    assert outbox.find(renamed) is not None
    assert outbox.claims(renamed) == outbox.claims(call(1))
    for other in ({"text": "class CNN: pass"}, {"name": "Net"}):
        assert outbox.find(call(2, **other)) is None


def test_acknowledged_rounds_are_forgotten_and_later_ones_kept(outbox: Outbox) -> None:
    for round_ in (1, 2, 3):
        outbox.store(make_call(round_), make_answer())
    outbox.store(make_call(1, client="B"), make_answer())
    outbox.acknowledge(make_call(3), up_to_round=2)
    assert [outbox.find(make_call(round_)) is not None for round_ in (1, 2, 3)] == [False, False, True]
    assert outbox.find(make_call(1, client="B")) is not None


def test_files_of_others_stay_and_stop_nothing(outbox: Outbox) -> None:
    outbox.store(make_call(1), make_answer())
    (entry,) = outbox.directory.glob("*/*/*.json")
    foreign = [
        entry.parent / name for name in ("notes.json", ".hidden.json", "0000000١-x.json", "00000001.json")
    ]
    for path in foreign:
        path.write_text("{}")
    outbox.acknowledge(make_call(2), up_to_round=1)
    assert sorted(entry.parent.iterdir()) == sorted(foreign)


def test_a_damaged_entry_means_work_again_not_a_failure(outbox: Outbox) -> None:
    outbox.store(make_call(), make_answer())
    (entry,) = outbox.directory.glob("*/*/*.json")
    entry.write_text(entry.read_text()[:-5])
    assert outbox.find(make_call()) is None


def test_the_owners_limits_hold(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, OutboxLimits(max_bytes=1000, max_days=3.0))
    outbox.store(make_call(1), make_answer())
    (old,) = tmp_path.glob("*/*/*.json")
    os.utime(old, (0, 0))
    outbox.store(make_call(2), make_answer())
    assert outbox.find(make_call(1)) is None
    for round_ in range(3, 9):
        for path in tmp_path.glob("*/*/*.json"):
            os.utime(path, (time.time() - 2 * 86400,) * 2)
        outbox.store(make_call(round_), make_answer())
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*/*.json")) <= 1000
    assert outbox.find(make_call(8)) is not None


def test_an_answer_that_nobody_has_fetched_yet_makes_no_room_for_another_clients(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, OutboxLimits(max_bytes=1))
    for client in "AB":
        outbox.store(make_call(client=client), make_answer())
    assert outbox.find(make_call(client="A")) is not None


def test_an_update_whose_answer_was_never_stored_goes_after_a_day(outbox: Outbox) -> None:
    kept = outbox.keep(make_call(), codec.Encoding({"w": torch.zeros(3)}))
    outbox.store(make_call(client="B"), make_answer())
    assert kept.path.exists()
    os.utime(kept.path, (time.time() - 2 * 86400,) * 2)
    outbox.store(make_call(client="C"), make_answer())
    assert not kept.path.exists()


def test_what_a_killed_worker_left_goes_when_the_round_is_acknowledged_or_too_old(outbox: Outbox) -> None:
    outbox.store(make_call(5), make_answer())
    names = [outbox.claims(make_call(round_)).name + ".1.claim" for round_ in (1, 5)]
    folder = outbox.claims(make_call()).parent
    for name in names:
        (folder / name).write_text("")
    outbox.acknowledge(make_call(6), 4)
    assert {path.name for path in folder.glob("*.claim")} == {names[1]}
    torn = folder / ".00000005-x.payload.abcd.part"
    torn.write_text("")
    for path in (torn, folder / names[1]):
        os.utime(path, (1e9, 1e9))
    outbox.store(make_call(6), make_answer())
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".json"]


def test_a_run_that_is_too_old_leaves_no_directory(outbox: Outbox) -> None:
    outbox.store(make_call(client="B"), make_answer())
    (entry,) = outbox.directory.glob("*/*/*.json")
    os.utime(entry, (1e9, 1e9))
    other = make_call()
    outbox.store(replace(other, identity=replace(other.identity, run="later")), make_answer())
    assert len(list(outbox.directory.iterdir())) == 1
