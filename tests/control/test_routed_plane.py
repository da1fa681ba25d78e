"""One run over several control planes."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest

from appfl_gc.control.plane import Capabilities
from appfl_gc.control.routed import RoutedPlane
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reply import Reply


@dataclass
class RecordingPlane:
    """Keeps what it is given; it stands for control planes that need a service."""

    capabilities: Capabilities
    fails_to_close: bool = False
    submitted: list[Call] = field(default_factory=list)
    closed: bool = False

    def task_group(self, call: Call) -> str:
        return f"{self.capabilities.name}-{call.identity.round}"

    def submit(self, call: Call) -> Future[Reply]:
        self.submitted.append(call)
        return Future()

    def attach(self, call: Call, group: str, task: str) -> Future[Reply]:
        return Future()

    def close(self) -> None:
        self.closed = True
        if self.fails_to_close:
            raise OSError("no")


def call(client: str) -> Call:
    return Call(CallId("run", 3, client), "trainer.train", nonce="n")


def test_each_client_has_its_plane() -> None:
    near = RecordingPlane(Capabilities("near", 10, True, False, True))
    far = RecordingPlane(Capabilities("far", 5, False, True, False))
    plane = RoutedPlane({"a": near, "b": far, "c": near})

    for client in "abc":
        plane.submit(call(client))

    assert [c.identity.client for c in near.submitted] == ["a", "c"]
    assert [c.identity.client for c in far.submitted] == ["b"]
    assert plane.task_group(call("b")) == "far-3"


def test_together_they_can_do_what_each_can() -> None:
    near = RecordingPlane(Capabilities("near", 10, True, False, True))
    far = RecordingPlane(Capabilities("far", 5, False, True, False))

    assert RoutedPlane({"a": near, "b": far}).capabilities == Capabilities(
        "near and far", 5, shared_file_system=False, reattach=False, cancel=False
    )


def test_every_plane_is_closed_although_one_fails_to() -> None:
    bad = RecordingPlane(Capabilities("bad", 1, True, True, True), fails_to_close=True)
    good = RecordingPlane(Capabilities("good", 1, True, True, True))

    with pytest.raises(OSError, match="no"):
        RoutedPlane({"a": bad, "b": good}).close()

    assert good.closed
