"""Whatever happens to what arrives or lies on a disk: it is used as it was, or refused in words; never executed."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from appfl_gc.control.message import JSON_HEADER, ReplyError, read_reply
from appfl_gc.payload import checksum, codec, model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.mailbox.progress_json import read_progress
from appfl_gc.payload.stores import FileStore, InlineStore, Stores
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport, TransferError, UpdateRefusedError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.measures import Measures
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.runner import lease
from appfl_gc.runner.api import RunResult, run
from appfl_gc.runner.journal import JournalError, read_journal
from appfl_gc.runner.metrics import numeric_metrics
from appfl_gc.runner.replay import policy_steps, recorded_steps
from appfl_gc.runner.resume.invocation import Invocation
from appfl_gc.runner.resume.reading import read_past
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.site import checkpoints, claims
from appfl_gc.site.checkpoints import Checkpointer
from appfl_gc.site.outbox import Outbox
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.roles.context import Answer
from appfl_gc.site.state import ClientStates, StateLostError
from appfl_gc.site.stopping import NeverStop
from tests.faults.mutating import SEARCHES, damaged, forged, search
from tests.small_federation import SmallFederation

STATE = {"w": torch.randn(20, 30, generator=torch.Generator().manual_seed(1)), "n": torch.tensor(3)}
SPEC = spec_of(STATE)
PAYLOAD = b"".join(bytes(chunk) for chunk in Encoding(STATE).chunks())
HEADER = len(Encoding(STATE).layout.header)
CALL = Call(CallId("run", 3, "Client1", 2), "trainer.train", {"config": {"a": 1}}, nonce="n", seed=7)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.canary,)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something that was read has been executed"


class TestReplies:
    def reply(self) -> Any:
        update = InlineStore().put(Encoding(STATE))
        return Reply(
            CALL.identity,
            "n",
            {
                "metrics": {"loss": 0.5, "acc": 1},
                "sample_size": 64,
                "share": 0.5,
                "compression": {"ratio": 2.0},
            },
            {"update": update},
            Measures(1.0, 2.0, 3.0, 4.0, 5, 6.0),
            ("a line",),
            ErrorReport(ErrorClass.USER, "It failed.", "Do this.", ("f.py:1 in g",), "trace"),
        ).to_json()

    @staticmethod
    def taken_in(text: str) -> None:
        """As the server does it: whatever is wrong is an error of this package."""
        try:
            reply = read_reply(text, CALL)
        except ReplyError:
            return
        json.dumps(reply.to_json(), allow_nan=False, ensure_ascii=False).encode()
        "\n".join((str(reply.error), *reply.log)).encode()
        assert all(numeric_metrics(reply.values.get(name)).values() is not None for name in reply.values)
        reply.measures.within(10.0)
        for reference in reply.payloads.values():
            with Arena(SPEC, 1) as arena, contextlib.suppress(AppflGcError):
                arena.land(0, reference, Stores(InlineStore(), FileStore("/nonexistent", create=False)))
                assert same(arena.state(0), STATE)

    @SEARCHES
    def test_damaged_text(self, examples: int) -> None:
        text = JSON_HEADER + json.dumps(self.reply())
        search(
            examples,
            damaged(text.encode()),
            lambda content: self.taken_in(content.decode("utf-8", "replace")),
        )

    @SEARCHES
    def test_forged_fields(self, examples: int) -> None:
        search(examples, forged(self.reply()), lambda fields: self.taken_in(JSON_HEADER + json.dumps(fields)))

    @pytest.mark.parametrize("header", ["01\n", "00\n", "04\n", "11", ""])
    def test_what_is_not_json_is_not_read(self, canary: Path, header: str) -> None:
        text = header + pickle.dumps(Bomb(canary)).decode("latin-1")
        with pytest.raises(ReplyError):
            read_reply(text, CALL)


class TestPayloads:
    @SEARCHES
    def test_damage_on_the_way(self, examples: int, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(STATE))

        def check(content: bytes) -> None:
            (tmp_path / ref.locator).write_bytes(content)
            with Arena(SPEC, 1) as arena:
                if content == PAYLOAD:
                    return
                with pytest.raises((TransferError, UpdateRefusedError)):
                    arena.land(0, ref, store)
                assert arena.landed == frozenset()

        search(examples, damaged(PAYLOAD), check)

    @SEARCHES
    def test_forgeries_whose_reference_fits_them(self, examples: int, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(STATE))

        def check(content: bytes) -> None:
            (tmp_path / ref.locator).write_bytes(content)
            fitting = replace(ref, size=len(content), checksum=checksum.of(memoryview(content)))
            with Arena(SPEC, 1) as arena:
                try:
                    arena.land(0, fitting, store)
                except (TransferError, UpdateRefusedError):
                    assert arena.landed == frozenset()
                else:
                    assert spec_of(arena.state(0)) == SPEC
                    assert all(tensor.isfinite().all() for tensor in arena.state(0).values())

        search(examples, damaged(PAYLOAD, HEADER) | damaged(PAYLOAD), check)

    @SEARCHES
    def test_forged_headers(self, examples: int, tmp_path: Path) -> None:
        fields, data = json.loads(PAYLOAD[8:HEADER]), PAYLOAD[HEADER:]
        path = tmp_path / "model"

        def check(changed: Any) -> None:
            text = json.dumps(changed).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + data)
            with contextlib.suppress(UpdateRefusedError):
                codec.read_spec(memoryview(path.read_bytes()))
            with contextlib.suppress(TransferError):
                model_file.open(path)

        search(examples, forged(fields), check)

    @SEARCHES
    def test_kept_updates(self, examples: int, tmp_path: Path) -> None:
        path, store = tmp_path / "kept", InlineStore()
        with Arena(SPEC, 2) as arena:
            arena.land(0, store.put(Encoding(STATE)), store)
            kept = arena.keep(0, path)

            def check(content: bytes) -> None:
                path.unlink()
                path.write_bytes(content)
                try:
                    arena.land_kept(1, path, kept)
                except TransferError:
                    assert arena.landed == {0}
                else:
                    assert content == PAYLOAD
                    arena.free(1)

            search(examples, damaged(PAYLOAD), check)

    @pytest.mark.parametrize("whole", [False, True])
    def test_a_pickle_is_not_a_payload(self, tmp_path: Path, canary: Path, whole: bool) -> None:
        content = pickle.dumps(Bomb(canary))
        if whole:
            content = content.ljust(len(PAYLOAD), b"\0")
        store = FileStore(tmp_path)
        ref = store.put(Encoding(STATE))
        (tmp_path / ref.locator).write_bytes(content)
        fitting = replace(ref, size=len(content), checksum=checksum.of(memoryview(content)))
        with Arena(SPEC, 1) as arena, pytest.raises(UpdateRefusedError):
            arena.land(0, fitting, store)
        with pytest.raises(TransferError):
            model_file.open(tmp_path / ref.locator)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A small run, whose files are damaged here."""
    return run(*SmallFederation(tmp_path_factory.mktemp("project")).write())


@pytest.fixture
def run_directory(finished: RunResult, tmp_path: Path) -> RunDirectory:
    """A copy of its files that are small."""
    copy = tmp_path / "run"
    copy.mkdir()
    for path in finished.run_dir.iterdir():
        if path.is_file() and not path.is_symlink():
            shutil.copy(path, copy)
    return RunDirectory(copy)


class TestJournals:
    @staticmethod
    def read(directory: RunDirectory) -> None:
        """As whoever goes on with the run does it."""
        read_past(directory)
        for _ in policy_steps(directory.journal):
            pass
        for _ in recorded_steps(directory.journal):
            pass

    @SEARCHES
    def test_damaged_bytes(self, examples: int, run_directory: RunDirectory) -> None:
        path = run_directory.journal
        whole = path.read_bytes()
        records = [(record.number, record.kind, record.fields) for record in read_journal(path)]

        def check(content: bytes) -> None:
            path.write_bytes(content)
            found = []
            with contextlib.suppress(JournalError):
                found = [(record.number, record.kind, record.fields) for record in read_journal(path)]
            # No record is another than it was, and none is missing between two that are there.
            assert found == records[: len(found)]
            with contextlib.suppress(JournalError):
                self.read(run_directory)

        search(examples, damaged(whole), check)

    @SEARCHES
    def test_lines_that_are_gone_or_stand_elsewhere(self, examples: int, run_directory: RunDirectory) -> None:
        path = run_directory.journal
        lines = path.read_bytes().splitlines(keepends=True)

        def check(order: list[int]) -> None:
            path.write_bytes(b"".join(lines[index] for index in order))
            if order == list(range(len(order))):
                self.read(run_directory)
                return
            with pytest.raises(JournalError):
                self.read(run_directory)

        places = st.lists(st.integers(0, len(lines) - 1), min_size=1, max_size=5)
        search(examples, places, check)
        search(examples, st.integers(1, len(lines)).map(lambda count: list(range(count))), check)

    @SEARCHES
    def test_forged_records(self, examples: int, run_directory: RunDirectory) -> None:
        path = run_directory.journal
        lines = path.read_bytes().splitlines()
        records = [json.loads(line.partition(b" ")[2]) for line in lines]

        def check(drawn: tuple[int, Any]) -> None:
            index, record = drawn
            body = json.dumps(record).encode()
            changed = [*lines[:index], b"%08x %s" % (zlib.crc32(body), body), *lines[index + 1 :]]
            path.write_bytes(b"\n".join([*changed, b""]))
            with contextlib.suppress(AppflGcError):
                self.read(run_directory)

        drawn = st.integers(0, len(records) - 1).flatmap(
            lambda index: st.tuples(st.just(index), forged(records[index]))
        )
        search(examples, drawn, check)


class TestOtherFilesOfARun:
    @SEARCHES
    def test_leases(self, examples: int, tmp_path: Path) -> None:
        (tmp_path / lease.LEASES).mkdir()
        content = json.dumps(lease.Holder.here().to_json()).encode()

        def check(changed: bytes) -> None:
            (tmp_path / lease.LEASES / "1.json").write_bytes(changed)
            found = lease.holder(tmp_path, period=0.001)
            assert found is None or isinstance(str(found), str)

        search(examples, damaged(content), check)
        fields = forged(lease.Holder.here().to_json()).map(lambda value: json.dumps(value).encode())
        search(examples, fields, check)

    def test_a_lease_that_says_nothing_is_taken_over(self, tmp_path: Path) -> None:
        (tmp_path / lease.LEASES).mkdir()
        (tmp_path / lease.LEASES / "1.json").write_bytes(b"\xff{")
        with lease.Lease(tmp_path, lambda _: None, period=0.05):
            assert lease.holder(tmp_path, period=0.05) is not None

    @SEARCHES
    def test_requests_to_stop(self, examples: int, tmp_path: Path) -> None:
        content = json.dumps({"token": "t", "by": "process 1 on host"}).encode()

        def check(changed: bytes) -> None:
            (tmp_path / lease.STOP_FILE).write_bytes(changed)
            assert isinstance(lease._request(tmp_path, "t"), str)

        search(examples, damaged(content), check)

    @SEARCHES
    def test_invocations(self, examples: int, run_directory: RunDirectory) -> None:
        path = run_directory.path / "invocation.json"
        content = path.read_bytes()

        def check(changed: bytes) -> None:
            path.write_bytes(changed)
            with contextlib.suppress(AppflGcError):
                Invocation.load(run_directory.path)

        search(examples, damaged(content), check)
        search(examples, forged(json.loads(content)).map(lambda value: json.dumps(value).encode()), check)


class TestFilesOfASite:
    @SEARCHES
    def test_client_states(self, examples: int, tmp_path: Path, canary: Path) -> None:
        states = ClientStates(tmp_path / "states", "run", "Client1", "Trainer")
        states.save(1, STATE)
        [path] = (tmp_path / "states").rglob("*.safetensors")
        content = path.read_bytes()

        def check(changed: bytes) -> None:
            path.write_bytes(changed)
            try:
                found = states.load(1)
            except StateLostError:
                return
            assert same(found, STATE)

        search(examples, damaged(content, 600) | damaged(content), check)
        check(pickle.dumps(Bomb(canary)))

    @SEARCHES
    def test_checkpoints(self, examples: int, tmp_path: Path) -> None:
        saved = {"model": STATE, "epoch": 3, "losses": [0.5, 0.25], "rest": None}
        keeper = Checkpointer(tmp_path / "a" / "b" / "00000001-x.checkpoint")
        assert keeper.save(saved, 7)
        content = keeper.path.read_bytes()

        def check(changed: bytes) -> None:
            keeper.path.parent.mkdir(parents=True, exist_ok=True)
            keeper.path.write_bytes(changed)
            found = keeper.load()
            if found is not None:
                assert same(found["model"], STATE)
                assert (found["epoch"], keeper.steps) == (3, 7)

        search(examples, damaged(content, 300) | damaged(content), check)

    def test_a_checkpoint_that_holds_a_pickle_is_not_executed(self, tmp_path: Path, canary: Path) -> None:
        """Not even where its header and checksum are as they should be."""
        keeper = Checkpointer(tmp_path / "a" / "b" / "00000001-x.checkpoint")
        assert keeper.save({"model": STATE}, 7)
        content = keeper.path.read_bytes()
        about = json.loads(content[: checkpoints.HEADER].partition(b"checkpoint ")[2])
        torch.save({"model": Bomb(canary)}, tmp_path / "bomb")
        for body in ((tmp_path / "bomb").read_bytes(), pickle.dumps(Bomb(canary), protocol=2)):
            about |= {"size": len(body), "checksum": checksum.of(memoryview(body))}
            header = b"appfl_gc checkpoint " + json.dumps(about).encode()
            keeper.path.parent.mkdir(parents=True, exist_ok=True)
            keeper.path.write_bytes(header.ljust(checkpoints.HEADER) + body)
            assert keeper.load() is None

    @SEARCHES
    def test_answers_in_the_outbox(self, examples: int, tmp_path: Path) -> None:
        outbox = Outbox(tmp_path / "outbox", OutboxLimits())
        ref = Ref("file", "locator", 4, "xxh3-128:aa", "safetensors")
        outbox.store(CALL, Answer({"steps": 10}, {"update": ref}))
        [path] = (tmp_path / "outbox").rglob("*.json")
        content = path.read_bytes()

        def check(changed: bytes) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(changed)
            found = outbox.find(CALL)
            if found is not None:
                Reply(CALL.identity, CALL.nonce, found.answer.values, found.answer.payloads).to_json()

        search(examples, damaged(content), check)
        search(examples, forged(json.loads(content)).map(lambda value: json.dumps(value).encode()), check)

    @SEARCHES
    def test_claims(self, examples: int, tmp_path: Path) -> None:
        name = tmp_path / "run" / "client" / "work"
        pace = claims.Pace(renew=5.0, patience=0.0, look=0.0)
        held = claims.Claims(name, logging.getLogger("claims"), pace)
        with held.held(NeverStop()):
            [path] = tmp_path.rglob(f"*{claims.SUFFIX}")
            content = path.read_bytes()

        def check(changed: bytes) -> None:
            path.write_bytes(changed)
            with held.held(NeverStop()):
                pass
            path.unlink(missing_ok=True)

        search(examples, damaged(content), check)

    @SEARCHES
    def test_progress(self, examples: int) -> None:
        def check(changed: bytes) -> None:
            found = read_progress(changed)
            assert found is None or (found.steps >= 0 and found.planned >= 0)

        search(examples, damaged(b'{"steps": 3, "planned": 10}'), check)
