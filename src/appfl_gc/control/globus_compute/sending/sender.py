"""Sends calls: one thread, one request a lane at a time, each through the SDK's Executor."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from globus_compute_sdk.errors import TaskExecutionFailed

from appfl_gc.control.globus_compute.failing import failures
from appfl_gc.control.globus_compute.rest.errors import Request, RequestTooLargeError, translate
from appfl_gc.control.globus_compute.sending.lane import Lane
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.sdk_client import PlaneClient
from appfl_gc.control.globus_compute.sending.sdk_internals import PlaneExecutor
from appfl_gc.control.globus_compute.sending.serializer import Envelope
from appfl_gc.control.message import RESULT_SERIALIZERS
from appfl_gc.control.plane import CallState

# The SDK's own delay: at its most permissive, ours is the one that knows the service's limit.
BURST_LIMIT, BURST_SECONDS = 8, 1
# Calls of a round come one after the other, and one request is to carry them all.
GATHER = 0.05


class Sender:
    """Takes calls off their lanes and hands them to Executors.

    Args:
        calls: the plane's open calls.
        request_limit: bytes of one request.
        amqp_port: of the result queue, or None.
        answered: gets what a site sent for a call (text), from an SDK thread.
        failed: gets why the service or the site says a call failed (text), likewise.
    """

    def __init__(
        self,
        calls: OpenCalls,
        request_limit: int,
        amqp_port: int | None,
        answered: Callable[[OpenCall, str], None],
        failed: Callable[[OpenCall, str], None],
    ) -> None:
        self._calls = calls
        self._request_limit = request_limit
        self._amqp_port = amqp_port
        self._answered = answered
        self._failed = failed
        self._changed = threading.Condition()
        self._lanes: dict[Lane, None] = {}
        self._requests = itertools.count(1)
        self._last = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="globus-compute-sender", daemon=True)
        self._thread.start()

    def send(self, call: OpenCall) -> None:
        """Send ``call`` when its turn comes. Returns at once."""
        with self._changed:
            self._last = time.monotonic()
            call.lane.waiting.append(call)
            self._lanes[call.lane] = None
            self._changed.notify()

    def wake(self) -> None:
        """Look again what can be sent."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Send nothing any more, and end the Executors. Does not wait."""
        with self._changed:
            self._closing = True
            lanes = list(self._lanes)
            self._changed.notify()
        for lane in lanes:
            lane.retire()

    # The thread

    def _serve(self) -> None:
        while True:
            with self._changed:
                ready = self._ready()
                if not (ready or self._closing):
                    # The longer timeout finds calls that a dying Executor forgot.
                    gathering = time.monotonic() - self._last < GATHER
                    self._changed.wait(timeout=GATHER if gathering else 1.0)
                    ready = self._ready()
                if self._closing:
                    return
                lanes = list(self._lanes)
            for lane in lanes:
                try:
                    self._rescue(lane)
                    if lane in ready:
                        self._send_some(lane)
                except Exception as error:  # noqa: BLE001  without this thread calls would wait for ever
                    self._give_up(lane, error)

    def _ready(self) -> list[Lane]:
        moment = time.monotonic()
        if moment - self._last < GATHER:
            return []
        return [
            lane
            for lane in self._lanes
            if lane.waiting and not lane.handed and lane.submitter.ready and lane.not_before <= moment
        ]

    def _send_some(self, lane: Lane) -> None:
        with self._changed:
            if not lane.waiting:
                return
            chosen = [call for call in lane.next_request(self._request_limit) if call in self._calls]
            lane.handed.update(chosen)
            number = next(self._requests)
        try:
            for call in chosen:
                call.request = number
                self._hand(lane, call)
        except Exception as error:  # noqa: BLE001  whatever the SDK raises belongs to these calls
            if lane.executor is None or not lane.executor.dead:
                self._refuse([call for call in chosen if call.taken is None], error)

    def _hand(self, lane: Lane, call: OpenCall) -> None:
        executor = self._executor(lane, call.group)
        function = lane.submitter.function_id
        future = executor.submit_to_registered_function(function, (Envelope(call),))
        ticket = Envelope(call)
        future.add_done_callback(lambda done: self._pushed(ticket.take(), done))

    def _executor(self, lane: Lane, group: str) -> PlaneExecutor:
        """The lane's Executor: a new one for each task group, and after one that died."""
        submitter = lane.submitter
        known = lane.executor
        if known is not None and not known.dead and str(known.task_group_id) == group:
            return known
        lane.retire()
        if lane.client is None:
            lane.client = PlaneClient(lane.target.identity, submitter.patience, submitter.turnstile, self)
        lane.executor = PlaneExecutor(
            push=submitter.push,
            watchers=submitter.watchers,
            endpoint_id=lane.target.endpoint_id,
            client=lane.client,
            task_group_id=group,
            resource_specification=lane.target.resource_specification,
            user_endpoint_config=lane.target.user_endpoint_config,
            amqp_port=self._amqp_port,
            api_burst_limit=BURST_LIMIT,
            api_burst_window_s=BURST_SECONDS,
            result_serializers=RESULT_SERIALIZERS,
        )
        return lane.executor

    def _rescue(self, lane: Lane) -> None:
        """Put calls back that a dead Executor was given and never sent."""
        with self._changed:
            if lane.handed and (lane.executor is None or lane.executor.dead):
                lane.waiting.extendleft(call for call in lane.handed if call in self._calls)
                lane.handed.clear()

    def _give_up(self, lane: Lane, error: Exception) -> None:
        """Fail what ``lane`` has not sent, so that the others go on."""
        with self._changed:
            lane.waiting.clear()
            lane.handed.clear()
        unsent = self._calls.matching(lambda call: call.lane is lane and call.taken is None)
        self._calls.fail(unsent, lambda call: failures.of_submission(error, call.place))

    # What the SDK's threads say

    def waits(self, envelopes: Sequence[Envelope], state: CallState, detail: str) -> None:
        """See ``Submissions.waits``."""
        for envelope in envelopes:
            self._calls.tell(envelope.call, state, detail)

    def regrouped(self, envelopes: Sequence[Envelope], old: str, new: str) -> None:
        """See ``Submissions.regrouped``."""
        sent = [envelope.call for envelope in envelopes]
        for submitter in {call.lane.submitter for call in sent}:
            submitter.regrouped(old, new)
        # Another lane may have moved what is in flight here, but it is the service that says where it went.
        for call in [*sent, *self._calls.matching(lambda call: call.group == old)]:
            call.group = new

    def taken(self, envelopes: Sequence[Envelope], tasks: Sequence[str]) -> None:
        """See ``Submissions.taken``."""
        calls = [envelope.take() for envelope in envelopes]
        moment = time.monotonic()
        for call, task in zip(calls, tasks, strict=True):
            # Told first: from ``taken`` on the answer may be read.
            call.took(task)
            self._calls.tell(call, CallState.WAITING_FOR_ENDPOINT)
            call.taken = moment
        self._settle(calls)

    def refused(self, envelopes: Sequence[Envelope], error: Exception) -> None:
        """See ``Submissions.refused``."""
        self._refuse([envelope.take() for envelope in envelopes], error)

    def _refuse(self, calls: Sequence[OpenCall], error: Exception) -> None:
        if not calls:
            return
        lane = calls[0].lane
        ours = translate(error, Request("submit calls", lane.target.identity, lane.target.endpoint_id))
        if isinstance(ours, RequestTooLargeError) and len(calls) > 1:
            with self._changed:
                lane.most = max(1, len(calls) // 2)
                lane.waiting.extendleft(reversed(calls))
        else:
            self._calls.fail(calls, lambda call: failures.of_submission(error, call.place))
        self._settle(calls)

    def _settle(self, calls: Iterable[OpenCall]) -> None:
        with self._changed:
            for call in calls:
                call.lane.handed.discard(call)
            self._changed.notify()

    def _pushed(self, call: OpenCall, future: Any) -> None:
        """The SDK's future is done: with the site's text, its failure, or because the SDK gave up."""
        if future.cancelled() or call.taken is None:
            return
        error = future.exception()
        if error is None:
            self._answered(call, future.result().take())
        elif isinstance(error, TaskExecutionFailed):
            self._failed(call, str(error.remote_data))
        else:
            # The task is at the service and goes on; its result is polled.
            call.lane.submitter.push_broke(error)
