"""Replies of broken or hostile clients: refused with the reason, and nothing of others is touched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.receive import bytes_of
from appfl_gc.payload.stores import FileStore, InlineStore, Stores, from_grant
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, TransferError, UpdateRefusedError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.measures import Measures
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.schedule_json import meta_from_json
from appfl_gc.protocol.wire import WireError
from appfl_gc.runner.flight import InFlight, Kept
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.journal import Journal, read_journal
from appfl_gc.runner.metrics import MetricsFile
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.slots import Slots

STATE = {"w": torch.arange(4.0)}


class Desk:
    """An intake for one client, the store behind it, and a call in flight."""

    def __init__(self, parent: Path) -> None:
        directory = RunDirectory.create(parent, "run")
        self.stores = Stores(InlineStore(0), FileStore(directory.payloads))
        self.model = self.stores.put(Encoding(STATE))
        self.arena = Arena(spec_of(STATE), 1)
        self.metrics = directory.metrics
        recorder = Recorder(directory, None, [])
        self.journal, self.kept = directory.journal, directory.kept_update("A", 1)
        metrics = MetricsFile(directory.metrics)
        self.intake = Intake(
            Slots(["A"], 1), Journal(directory.journal), metrics, recorder, most_samples=1000
        )
        args = {"grant": self.stores.grant([self.model], self.model.size)}
        call = Call(CallId("run", 1, "A"), "trainer.train", args, {"model": self.model}, nonce="n")
        self.intake.expect(call)
        self.flight = InFlight(call, sent=10.0, version=0)

    def put(self, state: dict[str, torch.Tensor]) -> Ref:
        """As the site of the call would."""
        return from_grant(self.flight.call.args["grant"]).put(Encoding(state))  # type: ignore[arg-type]

    def reply(self, update: Ref, **values: object) -> Reply:
        full = {"sample_size": 3, "metrics": {"train_loss": 1.0}, **values}
        payloads = {"update": update}
        return Reply(self.flight.call.identity, "n", full, payloads, Measures(1, 2, 0.5, 0.5, 7))  # type: ignore[arg-type]

    def accept(self, reply: Reply) -> UpdateMeta:
        """As the run does: the update lands between the two."""
        landing = self.intake.begin(self.flight, reply, 20.0)
        try:
            self.arena.land(landing.slot, landing.reference, self.stores)
        except AppflGcError:
            self.intake.give_up(landing)
            raise
        kept = Kept(self.kept, self.arena.keep(landing.slot, self.kept))
        return self.intake.accept(replace(landing, kept=kept), 0.25, now=30.0)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.arena.close()


def test_a_good_update_lands_with_its_three_times(desk: Desk) -> None:
    update = desk.put(STATE)
    meta = desk.accept(desk.reply(update))
    assert (meta.update, meta.sample_size, meta.steps) == (UpdateId("A", 1), 3, 7)
    assert meta.timing.queue == 6.0
    assert meta.timing.compute == 3.5
    assert meta.timing.transfer == 0.75
    assert desk.intake.unused_grants(meta.update, update) == []
    (accepted,) = desk.intake.take([meta.update])
    assert torch.equal(desk.arena.state(accepted.slot)["w"], STATE["w"])


def test_a_site_that_claims_more_seconds_than_the_run_has_is_believed_up_to_these(desk: Desk) -> None:
    reply = replace(desk.reply(desk.put(STATE)), measures=Measures(1e308, 1e308, 1e308, 1e308, 7, 1e308))
    timing = desk.accept(reply).timing
    assert timing.queue == 0.0
    assert timing.compute == pytest.approx(24.0)
    assert timing.train == pytest.approx(6.0)


def test_an_update_counts_for_no_more_steps_than_were_asked_for(desk: Desk) -> None:
    args = {**desk.flight.call.args, "task": {"local_steps": 5}}
    desk.flight = InFlight(replace(desk.flight.call, args=args), sent=10.0, version=0)
    assert desk.accept(desk.reply(desk.put(STATE))).steps == 5
    # What was done is told as it was.
    assert json.loads(desk.metrics.read_text())["steps"] == 7


def test_a_payload_that_is_not_the_clients_own_is_refused_and_stays(desk: Desk) -> None:
    with pytest.raises(WireError, match="not the one it was to make"):
        desk.accept(desk.reply(desk.model))
    assert len(bytes_of(desk.stores, desk.model)) == desk.model.size


def test_the_update_may_come_by_the_grant_of_an_earlier_attempt_and_the_others_are_withdrawn(
    desk: Desk,
) -> None:
    update = desk.put(STATE)
    again = desk.stores.grant([desk.model], desk.model.size)
    call = replace(desk.flight.call, args={"grant": again})
    desk.intake.expect(call)
    desk.flight = InFlight(call, sent=10.0, version=0)
    meta = desk.accept(desk.reply(update))
    assert desk.intake.unused_grants(meta.update, update) == [again]


def test_after_any_refusal_the_slot_is_free_for_a_good_update(desk: Desk) -> None:
    def refused(reply: Reply, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            desk.accept(reply)

    good = desk.put(STATE)
    refused(replace(desk.reply(good), payloads={}), WireError, "no update")
    refused(desk.reply(good, sample_size=-1), WireError, "negative")
    refused(desk.reply(good, sample_size="many"), WireError, "whole number")
    refused(desk.reply(good, sample_size=1001), UpdateRefusedError, "max_sample_size")
    refused(desk.reply(replace(good, checksum="xxh3-128:" + "0" * 32)), TransferError, "checksum|bytes")
    refused(desk.reply(replace(good, codec="pickle")), UpdateRefusedError, "pickle")
    refused(
        desk.reply(desk.put({"w": torch.tensor([1.0, torch.nan, 0.0, 0.0])})),
        UpdateRefusedError,
        "NaN stands in tensor 'w'",
    )
    refused(desk.reply(desk.put({"w": torch.zeros(5)})), UpdateRefusedError, "shape")
    assert desk.metrics.read_text() == ""
    desk.accept(desk.reply(desk.put(STATE)))


def test_names_of_metrics_cannot_upset_a_terminal(desk: Desk) -> None:
    reply = desk.reply(desk.put(STATE), metrics={"loss\x1b[2J": 1.0, "loss": 2.0})
    desk.accept(reply)
    row = json.loads(desk.metrics.read_text())
    assert row["loss"] == 2.0
    assert not any("\x1b" in key for key in row)


def test_metrics_cannot_stand_in_for_the_rows_own_fields_nor_crash_the_server(desk: Desk) -> None:
    reply = desk.reply(desk.put(STATE), metrics={"kind": 5.0, "round": 99.0, "huge": 10**400, "loss": 1.0})
    desk.accept(reply)
    row = json.loads(desk.metrics.read_text())
    assert (row["kind"], row["round"], row["loss"]) == ("client", 1, 1.0)
    assert "huge" not in row


def test_an_accepted_update_and_all_that_is_known_of_it_are_there_for_another_server(desk: Desk) -> None:
    meta = desk.accept(desk.reply(desk.put(STATE), share=0.5))
    assert meta.share == 0.5
    (arrived,) = [record for record in read_journal(desk.journal) if record.kind == "arrived"]
    assert meta_from_json(arrived.fields["meta"]) == meta
    desk.arena.free(0)
    desk.arena.land_kept(0, desk.kept.with_name(arrived.fields["kept"]), arrived.fields["kept_checksum"])
    assert torch.equal(desk.arena.state(0)["w"], STATE["w"])


@pytest.mark.parametrize("share", [0, -1, 2, "half", float("nan"), None])
def test_a_share_that_is_none_counts_as_the_whole(desk: Desk, share: object) -> None:
    assert desk.accept(desk.reply(desk.put(STATE), share=share)).share == 1.0
