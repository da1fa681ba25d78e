"""The courier: payloads move beside the event loop, and one store's trouble is its own."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import CODEC, Layout, spec_of
from appfl_gc.payload.coding import PLAIN
from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.payload.stores import FileStore, InlineStore, Stores
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass, TransferError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner import courier
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.flight import InFlight, Landing
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.inbox import Inbox, Landed, Moved, Prepared
from appfl_gc.runner.routes import Route, Routes
from appfl_gc.runner.run_directory import RunDirectory

STATE = {"w": torch.arange(100_000.0)}
DEADLINE = 20


class Frozen(FileStore):
    """A store that does not answer until ``thaw``, and then refuses."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.thaw = threading.Event()
        self.fetching = threading.Event()
        self.puts = 0

    def put(self, payload: Encoded, sent: Callable[[int], None] = lambda done: None) -> Ref:
        self.puts += 1
        self.thaw.wait(DEADLINE)
        raise TransferError("The store is frozen.")

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        self.fetching.set()
        while True:
            arrived(1)
            time.sleep(0.01)

    def descriptor(self, ref: Ref) -> int | None:
        return None


class Desk:
    def __init__(self, parent: Path) -> None:
        directory = RunDirectory.create(parent, "run")
        model_file.write(STATE, directory.initial)
        self.frozen = Frozen(directory.payloads)
        self.files = FileStore(directory.payloads)
        good, bad = (Route(Stores(InlineStore(0), store), PLAIN) for store in (self.files, self.frozen))
        routes = {"A": good, "B": bad, "C": bad, "D": bad}
        layout = Layout.of(spec_of(STATE))
        self.inbox: Inbox = queue.SimpleQueue()
        self.arena = Arena(layout.spec, 4)
        self.stop = threading.Event()
        self.routes = Routes(routes, dict.fromkeys(routes, PLAIN), layout)
        self.directory = directory
        self.model = GlobalModel(directory, frozenset())
        self.courier = Courier(self.routes, self.model, self.arena, directory, self.inbox, self.stop)

    def calls(self, *clients: str) -> list[tuple[Call, int]]:
        return [(Call(CallId("run", 1, client), "trainer.train", {}), 0) for client in clients]

    def lands(self, client: str) -> None:
        """An update of ``client`` begins to come in, without end."""
        ((call, version),) = self.calls(client)
        size = Layout.of(spec_of(STATE)).size
        ref = Ref("file", "0" * 32 + ".safetensors", size, "xxh3-128:0", CODEC)
        self.courier.land(Landing(InFlight(call, 0.0, version), Reply(call.identity, ""), 0.0, ref, 1, 0))
        assert self.frozen.fetching.wait(DEADLINE)

    def landed(self) -> Landed:
        """How the next update's way in ended."""
        while not isinstance(item := self.inbox.get(timeout=DEADLINE), Landed):
            assert isinstance(item, Moved)
        return item


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.frozen.thaw.set()
    desk.courier.close()
    desk.arena.close()


def test_a_store_that_does_not_answer_holds_up_only_its_own_clients(desk: Desk) -> None:
    desk.courier.prepare(desk.calls("B", "A", "C", "D"))
    (first,) = desk.inbox.get(timeout=DEADLINE)  # type: ignore[misc]
    assert isinstance(first, Prepared)
    assert (first.call.identity.client, first.error) == ("A", None)
    assert first.call.payloads["model"].codec == CODEC
    assert first.call.args["grant"]

    desk.frozen.thaw.set()
    others = desk.inbox.get(timeout=DEADLINE)
    assert isinstance(others, tuple)
    assert [item.call.identity.client for item in others] == ["B", "C", "D"]
    assert all(item.error is not None and "frozen" in item.error.message for item in others)
    assert desk.frozen.puts == 1, "one try for all of them"


def test_a_transfer_in_which_nothing_moves_is_told_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "SILENT_FROM", 0.2)
    own = Courier(desk.routes, desk.model, desk.arena, desk.directory, desk.inbox, desk.stop)
    own.prepare(desk.calls("B"))
    told = desk.inbox.get(timeout=DEADLINE)
    assert isinstance(told, Moved)
    assert "sending the model, and nothing has moved for" in told.what
    desk.frozen.thaw.set()


def test_clients_on_one_route_share_one_upload_and_have_a_grant_each(desk: Desk) -> None:
    for _ in range(2):
        desk.courier.prepare(desk.calls("A"))
    (first,), (second,) = (desk.inbox.get(timeout=DEADLINE) for _ in range(2))  # type: ignore[misc]
    assert first.call.payloads == second.call.payloads
    assert first.call.args["grant"] != second.call.args["grant"]


def test_a_grant_whose_call_has_no_mailbox_is_withdrawn(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    withdrawn: Inbox = queue.SimpleQueue()

    def mailbox(public: object = None) -> ServerMailbox:
        raise TransferError("The store takes no marks.")

    monkeypatch.setattr(desk.files, "mailbox", mailbox)
    monkeypatch.setattr(desk.files, "withdraw", withdrawn.put)
    desk.courier.prepare(desk.calls("A"))
    (prepared,) = desk.inbox.get(timeout=DEADLINE)  # type: ignore[misc]
    assert "takes no marks" in prepared.error.message
    assert withdrawn.get(timeout=DEADLINE)


def test_an_update_that_is_given_up_ends_its_way_in_and_is_remembered_no_longer(desk: Desk) -> None:
    ((call, _),) = desk.calls("B")
    update = UpdateId.of(call.identity)
    known = sys.getrefcount(update)
    desk.courier.give_up(update)
    assert sys.getrefcount(update) == known, "it is not on its way in"
    desk.lands("B")
    desk.courier.give_up(update)
    landed = desk.landed()
    assert landed.error is not None
    assert "not waited for any more" in landed.error.message


def test_a_run_that_ends_does_not_wait_for_a_transfer(desk: Desk) -> None:
    desk.lands("B")
    begun = time.monotonic()
    desk.courier.close()
    assert time.monotonic() - begun < courier.LAST_TRANSFERS
    landed = desk.landed()
    assert landed.error is not None
    assert landed.error.error_class is ErrorClass.TRANSFER
    assert "the run ends" in landed.error.message


def test_what_is_in_the_stores_goes_when_the_run_ends(desk: Desk) -> None:
    desk.courier.prepare(desk.calls("A"))
    (prepared,) = desk.inbox.get(timeout=DEADLINE)  # type: ignore[misc]
    assert len(list(desk.files.directory.iterdir())) == 3, "the model twice, and the call's mark"
    desk.courier.unmark(InFlight(prepared.call, 0.0, 0, prepared.mailbox))
    desk.courier.close()
    assert [path.name for path in desk.files.directory.iterdir()] == ["initial.safetensors"]
