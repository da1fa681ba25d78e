"""Calls on their way out: first their payloads, then the journal, then the control plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appfl_gc.payload.grants import public
from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json, as_object
from appfl_gc.runner.calls import HELLO_ROUND
from appfl_gc.runner.courier import Courier
from appfl_gc.runner.dispatcher import Dispatcher
from appfl_gc.runner.events import ClientChanged, ClientState
from appfl_gc.runner.inbox import Prepared
from appfl_gc.runner.intake import Intake
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.recorder import Recorder


class Outgoing:
    """Sends calls, each with the version of the global model that it carries.

    Args:
        courier: gives them model and grant.
        intake: hears what replies may name.
        dispatcher: sends them.
        journal: has them before they leave.
        recorder: tells of them.
        endpoints: where each client is.
    """

    def __init__(
        self,
        courier: Courier,
        intake: Intake,
        dispatcher: Dispatcher,
        journal: Journal,
        recorder: Recorder,
        endpoints: Mapping[str, str],
    ) -> None:
        self._courier = courier
        self._intake = intake
        self._dispatcher = dispatcher
        self._journal = journal
        self._recorder = recorder
        self._endpoints = endpoints

    def request(self, calls: Sequence[tuple[Call, int]]) -> None:
        """Have calls prepared; what becomes of them comes into the inbox as ``Prepared``."""
        if not calls:
            return
        for call, version in calls:
            self._dispatcher.begin(call.identity.client, version)
        self._courier.prepare(calls)

    def send_prepared(self, items: Sequence[Prepared], now: float) -> None:
        """Send calls that have their payloads, with one flush of the journal, at second ``now`` of the run."""
        for item in items:
            call = item.call
            self._intake.expect(call)
            self._journal.append(
                now,
                "dispatch" if call.identity.attempt == 1 else "retry",
                client=call.identity.client,
                round=call.identity.round,
                attempt=call.identity.attempt,
                channel=call.channel,
                endpoint=self._endpoints[call.identity.client],
                version=item.version,
                model=call.payloads["model"].checksum,
                **_model_at(call.payloads["model"]),
                nonce=call.nonce,
                seed=call.seed,
                threads=call.threads,
                args=call.args["task"],
                state_of=call.args["state_of"],
                acknowledged=call.args["acknowledged"],
                grant=public(as_object(call.args["grant"], "The grant")),
                mailbox=None if item.mailbox is None else item.mailbox.public,
                task_group=self._dispatcher.task_group(call),
            )
        self._send([(item.call, item.version, item.mailbox) for item in items], ClientState.WORKING)

    def greet(self, call: Call) -> None:
        """Send a first call, which carries nothing."""
        self._send([(call, 0, None)], ClientState.CONNECTING)

    def greet_again(self, call: Call, now: float) -> None:
        """Send a first call as a new attempt."""
        self._journal.append(
            now,
            "retry",
            client=call.identity.client,
            round=HELLO_ROUND,
            attempt=call.identity.attempt,
            nonce=call.nonce,
            task_group=self._dispatcher.task_group(call),
        )
        self.greet(call)

    def _send(self, calls: Sequence[tuple[Call, int, ServerMailbox | None]], state: ClientState) -> None:
        if calls:
            self._journal.flush()
        for call, version, mailbox in calls:
            self._dispatcher.send(call, version, mailbox)
            self._recorder.tell(ClientChanged(call.identity.client, state, call.identity.round))


def _model_at(ref: Ref) -> dict[str, Json]:
    """The field of a record that says where the model lies; none if it is in the message."""
    return {} if ref.scheme == InlineStore.scheme else {"model_at": ref.to_json()}
