"""The control plane that reaches sites through Globus Compute."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from appfl_gc.control.globus_compute.failing import failures
from appfl_gc.control.globus_compute.failing.quiet import QuietLibraries
from appfl_gc.control.globus_compute.failing.start_failures import StartFailures
from appfl_gc.control.globus_compute.following.follower import Follower
from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.rest.patience import Patience
from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.control.globus_compute.rest.turnstile import ClosingError, Turnstile
from appfl_gc.control.globus_compute.sending.lane import Lane, Target
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.packing import RESERVE, call_bytes
from appfl_gc.control.globus_compute.sending.sender import Sender
from appfl_gc.control.globus_compute.sending.submitter import ResultMode, Submitter
from appfl_gc.control.message import ReplyError, read_reply
from appfl_gc.control.plane import CallState, Capabilities, Listener
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import StartFailedError
from appfl_gc.protocol.reply import Reply

__all__ = ["GlobusComputePlane", "PlaneSettings", "Target"]

# The agents' engines carry no larger result; a constant of theirs.
RESULT_LIMIT = 10 * 1024 * 1024
# What a call or a reply holds besides one payload: configuration, sources, log lines.
BESIDE_PAYLOAD = 256 * 1024


@dataclass(frozen=True)
class PlaneSettings:
    """How the service is used; see ``control_configs``.

    Attributes:
        request_limit_bytes: of one request.
        results: pushed, polled, or found out.
        amqp_port: of the result queue, or None for the service's choice.
        function_id: UUID of the entry function, or None to register it.
        lost_after_seconds: silence after which a call is given up.
        pushed_pause_seconds, polled_pause_seconds: longest pause between questions about tasks, with results
            pushed and polled.
        again_seconds: until a call is sent again to an endpoint that is soon ready for it.
        requests, requests_seconds: so many requests of one identity go in any so many seconds. The service takes
            20 in 10 s; other programs of that identity need some too.
    """

    request_limit_bytes: int = 10_000_000
    results: ResultMode = "auto"
    amqp_port: int | None = None
    function_id: str | None = None
    lost_after_seconds: float = 600.0
    pushed_pause_seconds: float = 15.0
    polled_pause_seconds: float = 5.0
    again_seconds: float = 10.0
    requests: int = 18
    requests_seconds: float = 10.0

    @property
    def inline_limit(self) -> int:
        """Largest payload, in bytes before base64, that fits into a request and into a reply."""
        text = min(self.request_limit_bytes - RESERVE, RESULT_LIMIT) - BESIDE_PAYLOAD
        return max(0, text // 4 * 3)


class GlobusComputePlane:
    """Delivers calls to endpoints.

    Args:
        targets: where each client's calls go.
        settings: how the service is used.
        listener: hears how far calls are, from any thread.
    """

    def __init__(self, targets: Mapping[str, Target], settings: PlaneSettings, listener: Listener) -> None:
        self._settings = settings
        self._closing = threading.Event()
        logger = logging.getLogger("appfl_gc.globus_compute")
        self._quiet = QuietLibraries(logger).__enter__()
        self._calls = OpenCalls(listener)
        self._submitters: dict[Identity, Submitter] = {}
        for target in targets.values():
            if target.identity not in self._submitters:
                self._submitters[target.identity] = self._submitter(target.identity, logger)
        lanes: dict[tuple[Identity, str, str], Lane] = {}
        self._lane_of = {
            client: lanes.setdefault(_key(target), Lane(target, self._submitters[target.identity]))
            for client, target in targets.items()
        }
        self._start_failures = StartFailures(self._calls)
        self._sender = Sender(
            self._calls, settings.request_limit_bytes, settings.amqp_port, self._answered, self._failed
        )
        self._followers = {
            submitter: Follower(
                submitter,
                self._calls,
                settings.lost_after_seconds,
                settings.pushed_pause_seconds,
                settings.polled_pause_seconds,
                self._answered,
                self._failed,
                self._sender.wake,
                self._closing,
            )
            for submitter in self._submitters.values()
        }

    def _submitter(self, identity: Identity, logger: logging.Logger) -> Submitter:
        limit = RateLimit(self._settings.requests, self._settings.requests_seconds)
        turnstile = Turnstile(limit, self._closing)
        return Submitter(
            identity,
            # Repeats pass no turnstile; the one renews a token.
            ComputeService(identity, retries=1, turn=turnstile.turn),
            Patience(identity, turnstile, self._settings.lost_after_seconds),
            turnstile,
            self._settings.function_id,
            self._settings.results,
            self._settings.amqp_port,
            logger,
        )

    @property
    def services(self) -> Mapping[str, ComputeService]:
        """The REST side of each client's identity, within the same rate as the calls."""
        return {client: lane.submitter.service for client, lane in self._lane_of.items()}

    @property
    def capabilities(self) -> Capabilities:
        """What this control plane can do."""
        return Capabilities(
            "globus_compute",
            self._settings.inline_limit,
            shared_file_system=False,
            reattach=True,
            cancel=False,
        )

    def task_group(self, call: Call) -> str:
        """UUID of the task group of ``call``: one a round and identity."""
        return self._lane_of[call.identity.client].submitter.group(call.identity.round)

    def submit(self, call: Call) -> Future[Reply]:
        """Send ``call`` to the endpoint of its client; returns at once."""
        lane = self._lane_of[call.identity.client]
        place = failures.Place(call.identity.client, lane.target.endpoint_id, lane.target.identity)
        opened = OpenCall(call, lane, place, self.task_group(call), call_bytes(call))
        self._calls.add(opened)
        limit = self._settings.request_limit_bytes
        stopped = self._start_failures.refusal(lane)
        if self._closing.is_set():
            self._calls.fail([opened], lambda one: failures.located(ClosingError(), one.place))
        elif stopped is not None:
            self._calls.fail([opened], lambda one: failures.located(stopped, one.place))
        elif opened.size > lane.room(limit):
            size = opened.size + limit - lane.room(limit)
            self._calls.fail([opened], lambda one: failures.too_large(size, limit, one.place))
        else:
            self._sender.send(opened)
        return opened.future

    def attach(self, call: Call, group: str, task: str) -> Future[Reply]:
        """See ``ControlPlane.attach``. Its result is polled; ``EarlierCalls`` says how it is found."""
        lane = self._lane_of[call.identity.client]
        place = failures.Place(call.identity.client, lane.target.endpoint_id, lane.target.identity, task)
        opened = OpenCall(call, lane, place, group, size=0, attached=True, taken=time.monotonic())
        opened.state = CallState.WAITING_FOR_ENDPOINT
        self._calls.add(opened)
        if self._closing.is_set():
            self._calls.fail([opened], lambda one: failures.located(ClosingError(), one.place))
        return opened.future

    def close(self) -> None:
        """Stop at once. Calls in flight fail; the service and the sites go on with what they have."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._sender.close()
        self._calls.fail(
            self._calls.matching(lambda call: True), lambda call: failures.located(ClosingError(), call.place)
        )
        for submitter in self._submitters.values():
            submitter.close()
        self._quiet.__exit__(None, None, None)

    # What the service says, from its threads

    def _answered(self, call: OpenCall, text: str) -> None:
        """A site sent ``text`` for ``call``."""
        if call not in self._calls:
            return
        try:
            reply = read_reply(text, call.call)
        except ReplyError as error:
            refusal = error
            self._calls.fail([call], lambda one: failures.of_reply(refusal, one.place))
            return
        if not call.lane.user_endpoint:
            self._followers[call.lane.submitter].stranger(call.lane, call.task)
        self._start_failures.answered(call.lane)
        self._calls.answer(call, reply)

    def _failed(self, call: OpenCall, text: str) -> None:
        """The service or the site says that ``call`` failed."""
        error = failures.of_task(text, call.place)
        early = isinstance(error, failures.TooEarlyError)
        if early and not call.attached and self._in_time(call):
            self._send_again(call, error.message)
        elif isinstance(error, StartFailedError):
            self._start_failures.failed(call, error)
        else:
            self._calls.fail([call], lambda _: error)

    def _in_time(self, call: OpenCall) -> bool:
        return time.monotonic() - call.opened < self._settings.lost_after_seconds

    def _send_again(self, call: OpenCall, why: str) -> None:
        """What keeps the endpoint from taking ``call`` passes by itself."""
        if call not in self._calls:
            return
        call.unsent()
        call.lane.not_before = time.monotonic() + self._settings.again_seconds
        self._calls.tell(call, CallState.SENDING, f"{why} Trying again.")
        self._sender.send(call)


def _key(target: Target) -> tuple[Identity, str, str]:
    """Targets that share an Executor."""
    configuration = json.dumps([target.user_endpoint_config, target.resource_specification], sort_keys=True)
    return target.identity, target.endpoint_id, configuration
