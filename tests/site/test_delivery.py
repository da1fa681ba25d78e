"""Updates on their way into a store that may not take them, and out of the outbox again."""

from __future__ import annotations

import logging
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.file_store import FileStore
from appfl_gc.payload.mailbox.making import mailbox_from_grant
from appfl_gc.payload.proxystore.making import make_store
from appfl_gc.payload.receive import state_of
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass, TransferError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reference import HELD
from appfl_gc.protocol.wire import Json
from appfl_gc.site.delivery import deliver, deliver_kept
from appfl_gc.site.outbox import Outbox
from appfl_gc.site.paths import SitePaths
from appfl_gc.site.policy import SitePolicy
from appfl_gc.site.roles.context import Answer, CallContext, Stopwatch
from appfl_gc.site.roles.payload_role import send
from appfl_gc.site.session import SessionCache
from appfl_gc.site.watch import Watch

STATE = {"w": torch.arange(1000.0)}


class Site:
    """A site, and a shared directory as its store."""

    def __init__(self, directory: Path) -> None:
        self.shared = directory / "shared"
        self.shared.mkdir()
        self.paths = SitePaths(directory / "home", directory / "state")
        self.policy = SitePolicy()
        self.outbox = Outbox(self.paths.outbox, self.policy.outbox)
        self.store = make_store("FileConnector", {"store_dir": str(self.shared)}, threading.Event())

    def call(self, channel: str = "trainer.train", attempt: int = 1, **args: Json) -> Call:
        grant: dict[str, Any] = {
            "scheme": "stores",
            "inline": {"scheme": "inline", "limit": 0},
            "large": self.store.grant([], 10_000),
        }
        return Call(CallId("run", 1, "A", attempt), channel, {"grant": grant, **args}, nonce="n")

    def context(self, call: Call) -> CallContext:
        logger = logging.getLogger("test")
        return CallContext(call, self.paths, self.policy, SessionCache(), logger, Stopwatch())

    def train(self, call: Call) -> Answer:
        answer = Answer({"sample_size": 3}, tensors=Encoding(STATE))
        return deliver(self.context(call), self.outbox, answer)

    def lose_the_store(self) -> None:
        self.shared.rename(self.shared.with_name("gone"))

    def find_the_store(self) -> None:
        self.shared.with_name("gone").rename(self.shared)

    def arrived(self, answer: Answer) -> dict[str, torch.Tensor]:
        return state_of(self.store, answer.payloads["update"], spec_of(STATE), Coding())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_is_sent_is_kept_until_it_is_acknowledged(site: Site) -> None:
    call = site.call()
    answer = site.train(call)
    assert torch.equal(site.arrived(answer)["w"], STATE["w"])
    found = site.outbox.find(call)
    assert found is not None and found.kept is not None and not found.held
    site.outbox.acknowledge(call, 1)
    assert site.outbox.find(call) is None
    assert [path for path in site.paths.outbox.rglob("*") if path.is_file()] == []


def test_a_store_that_can_not_even_be_reached_costs_no_training(site: Site) -> None:
    call = site.call()
    site.lose_the_store()
    answer = site.train(call)
    assert answer.error is not None
    assert answer.payloads["update"].scheme == HELD
    assert answer.values["sample_size"] == 3

    still = send(site.context(site.call("payload.send", 2, of="trainer.train")))
    assert still.error is not None
    assert still.payloads["update"].scheme == HELD

    site.find_the_store()
    sent = send(site.context(site.call("payload.send", 3, of="trainer.train")))
    assert sent.error is None
    assert torch.equal(site.arrived(sent)["w"], STATE["w"])
    # As if the server was killed and asks for the training again.
    again = site.outbox.find(site.call(attempt=4))
    assert again is not None and not again.held


@pytest.mark.parametrize("limit", [0, 1_000_000], ids=["by the store", "in the message"])
def test_an_update_that_nobody_waits_for_any_more_stays_at_the_site(site: Site, limit: int) -> None:
    """The run's stores are swept by then, and what came later would stay in them."""
    call = site.call()
    grant = call.args["grant"]
    assert isinstance(grant, dict)
    grant["inline"] = {"scheme": "inline", "limit": limit}
    mailbox = FileStore(site.shared).mailbox()
    mailbox.remove()
    with Watch(mailbox_from_grant(mailbox.grant)) as watch:
        answer = Answer({"sample_size": 3}, tensors=Encoding(STATE))
        answer = deliver(replace(site.context(call), watch=watch), site.outbox, answer)
    assert answer.error is not None and answer.error.error_class is ErrorClass.CANCELLED
    assert list(site.shared.iterdir()) == []
    found = site.outbox.find(call)
    assert found is not None and found.kept is not None and found.held
    # The run goes on later, and asks again.
    sent = deliver_kept(site.context(site.call(attempt=2)), site.outbox, found.answer, found.kept, call)
    assert sent.error is None
    assert torch.equal(site.arrived(sent)["w"], STATE["w"])


def test_what_was_damaged_in_the_outbox_is_not_sent(site: Site) -> None:
    call = site.call()
    site.train(call)
    (kept,) = site.paths.outbox.rglob("*.payload")
    data = bytearray(kept.read_bytes())
    data[2000:2400] = bytes(400)
    kept.write_bytes(data)
    found = site.outbox.find(call)
    assert found is not None and found.kept is not None
    with pytest.raises(TransferError, match="checksum"):
        deliver_kept(site.context(site.call("payload.send", 2)), site.outbox, found.answer, found.kept, call)
    assert site.outbox.find(call) is None, "so the next attempt trains again"


def test_an_outbox_without_room_does_not_keep_an_update_from_being_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise TransferError("There is no room.")

    monkeypatch.setattr(Outbox, "keep", full)
    answer = site.train(site.call())
    assert answer.error is None
    assert torch.equal(site.arrived(answer)["w"], STATE["w"])


def test_an_update_that_is_neither_kept_nor_taken_is_an_error(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise TransferError("There is no room.")

    monkeypatch.setattr(Outbox, "keep", full)
    call = site.call()
    site.lose_the_store()
    with pytest.raises(TransferError):
        site.train(call)


def test_the_outbox_no_longer_has_it(site: Site) -> None:
    with pytest.raises(TransferError, match="no longer holds") as caught:
        send(site.context(site.call("payload.send", 2, of="trainer.train")))
    assert caught.value.error_class is ErrorClass.TRANSFER


def test_the_outbox_is_for_its_owner_alone(site: Site) -> None:
    site.train(site.call())
    for path in (site.paths.outbox, *site.paths.outbox.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_new_attempt_of_the_training_sends_what_is_held(site: Site) -> None:
    first = site.call()
    site.lose_the_store()
    site.train(first)
    site.find_the_store()
    found = site.outbox.find(replace(site.call(), identity=replace(first.identity, attempt=2)))
    assert found is not None and found.held and found.kept is not None
    sent = deliver_kept(site.context(site.call(attempt=2)), site.outbox, found.answer, found.kept, first)
    assert sent.error is None
    assert torch.equal(site.arrived(sent)["w"], STATE["w"])
