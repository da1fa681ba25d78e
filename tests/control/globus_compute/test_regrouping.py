"""A service that takes task groups of its own making alone makes one for each request."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterable

from appfl_gc.control.globus_compute.failing.failures import Place
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.control.globus_compute.rest.patience import Patience
from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.control.globus_compute.rest.turnstile import Turnstile
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.sdk_internals import ResultWatchers
from appfl_gc.control.globus_compute.sending.sender import Sender
from appfl_gc.control.globus_compute.sending.serializer import Envelope
from appfl_gc.control.globus_compute.sending.submitter import Submitter
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId

IDENTITY = Application(str(uuid.uuid4()), "secret", "the test")


class Retired(ResultWatchers):
    """Remembers whose connections were closed."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: set[str] = set()

    def retire(self, groups: Iterable[str]) -> None:
        self.groups |= set(groups)


def test_groups_of_two_requests_in_flight_are_both_kept_and_both_end() -> None:
    turnstile = Turnstile(RateLimit(1000, 1.0), threading.Event())
    patience = Patience(IDENTITY, turnstile, 1.0)
    service = ComputeService(IDENTITY, turn=turnstile.turn)
    submitter = Submitter(IDENTITY, service, patience, turnstile, "F", "push", None, logging.Logger("none"))
    submitter.watchers = retired = Retired()
    calls = OpenCalls(lambda progress: None)
    sender = Sender(calls, 1000, None, lambda call, text: None, lambda call, text: None)
    ours = submitter.group(1)
    opened = []
    for client in ("A", "B", "C"):
        lane = Lane(Target(str(uuid.uuid4()), IDENTITY), submitter)
        call = Call(CallId("run", 1, client), "site.hello", {}, nonce="n")
        opened.append(OpenCall(call, lane, Place(client, lane.target.endpoint_id, IDENTITY), ours, 10))
        calls.add(opened[-1])
    sender.regrouped([Envelope(opened[0])], ours, "first")
    sender.regrouped([Envelope(opened[1])], ours, "second")
    assert [call.group for call in opened] == ["first", "second", "first"]
    submitter.group(2)
    submitter.retire_groups(lambda: {"second"})
    assert retired.groups == {"first"}
    submitter.retire_groups(set)
    assert retired.groups == {"first", "second"}
    sender.close()
