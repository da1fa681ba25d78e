"""Follows the calls of one identity over REST: their states, their answers, and endpoints that went silent."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping

from appfl_gc.control.globus_compute.failing import failures
from appfl_gc.control.globus_compute.following.cadence import Cadence
from appfl_gc.control.globus_compute.following.silence import Silence
from appfl_gc.control.globus_compute.rest.turnstile import ClosingError
from appfl_gc.control.globus_compute.sending.lane import Lane
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.submitter import Submitter
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, EndpointError, LoginError
from appfl_gc.protocol.wire import Json

TICK = 0.25
# Most pushed results are here within this many seconds; asking before would use up the service's rate.
FIRST_PUSHED = 3.0
FIRST_POLLED = 1.0
# Requests in the window of the rate limit that are kept for submitting.
SPARE = 6
SHORTEST_STATUS, LONGEST_STATUS = 2.0, 30.0
UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
TASKS_A_REQUEST = 100
_STATES: Mapping[str, CallState] = {
    "received": CallState.WAITING_FOR_ENDPOINT,
    "waiting-for-ep": CallState.WAITING_FOR_ENDPOINT,
    "waiting-for-nodes": CallState.WAITING_FOR_NODES,
    "waiting-for-launch": CallState.WAITING_FOR_NODES,
    "running": CallState.RUNNING,
}


class Follower:
    """One thread for one identity.

    Args:
        submitter: the identity's part.
        calls: the plane's open calls.
        lost_after: seconds of silence after which a call is given up.
        pushed_pause, polled_pause: longest seconds between questions, with results pushed and polled.
        answered: gets what a site sent for a call (text).
        failed: gets why the service or the site says a call failed (text).
        given_up: gets calls that could not be sent, when preparing failed.
        ready: called once calls can be sent.
        closing: set when the run ends.
    """

    def __init__(
        self,
        submitter: Submitter,
        calls: OpenCalls,
        lost_after: float,
        pushed_pause: float,
        polled_pause: float,
        answered: Callable[[OpenCall, str], None],
        failed: Callable[[OpenCall, str], None],
        ready: Callable[[], None],
        closing: threading.Event,
    ) -> None:
        self._submitter = submitter
        self._calls = calls
        self._lost_after = lost_after
        self._pushed_pause = pushed_pause
        self._polled_pause = polled_pause
        self._answered = answered
        self._failed = failed
        self._ready = ready
        self._closing = closing
        self._cadence = Cadence()
        self._silence = Silence()
        self._status_period = min(max(lost_after / 4, SHORTEST_STATUS), LONGEST_STATUS)
        self._unreachable_since: float | None = None
        self._seen: set[str] = set()
        self._strangers: dict[Lane, str] = {}
        threading.Thread(target=self._serve, name="globus-compute-follower", daemon=True).start()

    def stranger(self, lane: Lane, task: str) -> None:
        """``task`` was answered, and the service may tell which user endpoint ran it."""
        self._strangers.setdefault(lane, task)

    def _serve(self) -> None:
        while not self._closing.wait(TICK):
            try:
                self._step()
            except ClosingError:
                return
            except AppflGcError as error:
                self._trouble(error)
            except Exception as error:  # noqa: BLE001  without this thread calls would wait for ever
                self._trouble(DeliveryError(f"The service answered what is not understood: {error!r}."))
            else:
                continue
            self._cadence.asked(time.monotonic(), False, FIRST_POLLED, self._polled_pause)

    @property
    def _first(self) -> float:
        """Seconds until a task is asked about first."""
        return FIRST_PUSHED if self._submitter.push else FIRST_POLLED

    def _mine(self) -> list[OpenCall]:
        return self._calls.matching(lambda call: call.lane.submitter is self._submitter)

    def _step(self) -> None:
        mine = self._mine()
        if not self._submitter.ready:
            if mine:
                self._prepare(mine)
            return
        self._submitter.retire_groups(lambda: {call.group for call in self._mine()})
        if not mine:
            return
        if self._submitter.probe_due:
            self._submitter.probe_results(lambda state, detail: None)
        taken = {call.task: call for call in mine if call.taken is not None}
        if taken.keys() - self._seen:
            self._cadence.restart(time.monotonic(), self._first)
        self._seen = set(taken)
        if taken and self._cadence.due(time.monotonic()):
            self._ask_tasks(taken)
        moment = time.monotonic()
        waiting = [c for c in taken.values() if moment - (c.taken or moment) >= self._status_period]
        if waiting:
            self._ask_endpoints(waiting)

    def _prepare(self, mine: list[OpenCall]) -> None:
        def tell(state: CallState, detail: str) -> None:
            for call in self._mine():
                self._calls.tell(call, state, detail)

        try:
            self._submitter.prepare(tell)
        except ClosingError:
            raise
        except AppflGcError as error:
            why = error
            self._calls.fail(self._mine(), lambda call: failures.located(why, call.place))
            return
        self._ready()

    # Tasks

    def _ask_tasks(self, taken: dict[str, OpenCall]) -> None:
        strangers, self._strangers = self._strangers, {}
        news = False
        asked = [*taken, *strangers.values()]
        for begin in range(0, len(asked), TASKS_A_REQUEST):
            self._submitter.turnstile.room(SPARE)
            rows = self._submitter.service.task_batch(asked[begin : begin + TASKS_A_REQUEST])
            self._reachable()
            for lane, task in strangers.items():
                self._learn(lane, rows.get(task, {}))
            for task, row in rows.items():
                if task in taken:
                    news = self._told(taken[task], row) or news
        longest = self._pushed_pause if self._submitter.push else self._polled_pause
        self._cadence.asked(time.monotonic(), news, self._first, longest)

    def _told(self, call: OpenCall, row: Mapping[str, Json]) -> bool:
        """Take in what the service says of a task; whether it is news."""
        self._learn(call.lane, row)
        status = str(row.get("status", "")).lower()
        if status == "success" and isinstance(result := row.get("result"), str):
            self._answered(call, result)
            return True
        if status in ("failed", "success"):
            self._failed(call, str(row.get("exception") or row.get("reason") or "No reason was given."))
            return True
        state = _STATES.get(status)
        if state is None or state is call.state:
            return False
        self._calls.tell(call, state)
        return True

    def _learn(self, lane: Lane, row: Mapping[str, Json]) -> None:
        details = row.get("details")
        known = details.get("endpoint_id") if isinstance(details, dict) else None
        if isinstance(known, str) and UUID_FORM.fullmatch(known) and known != lane.target.endpoint_id:
            lane.user_endpoint = known

    # Silence

    def _ask_endpoints(self, taken: list[OpenCall]) -> None:
        endpoints = {call.lane.target.endpoint_id for call in taken}
        endpoints |= {call.lane.user_endpoint for call in taken if call.lane.user_endpoint}
        endpoint = self._silence.due(endpoints, time.monotonic(), self._status_period)
        if endpoint is None:
            return
        self._submitter.turnstile.room(SPARE)
        online = self._online(endpoint)
        moment = time.monotonic()
        self._silence.heard(endpoint, online, moment)
        self._tell_of(endpoint, online, taken)
        for call in taken:
            self._give_up_if_lost(call, moment)

    def _tell_of(self, endpoint: str, online: bool | None, taken: list[OpenCall]) -> None:
        """Say of the endpoint's calls that it is offline, or is back."""
        for call in taken:
            if call.lane.target.endpoint_id != endpoint:
                continue
            if online is False:
                detail = (
                    f"Endpoint {endpoint} is offline; the call waits in the service for it, "
                    f"and is given up after {self._lost_after:.0f} s."
                )
                self._calls.tell(call, CallState.WAITING_FOR_ENDPOINT, detail)
            elif call.state is CallState.WAITING_FOR_ENDPOINT:
                self._calls.tell(call, CallState.WAITING_FOR_ENDPOINT)

    def _online(self, endpoint: str) -> bool | None:
        try:
            status = self._submitter.service.endpoint_status(endpoint)
        except EndpointError:
            return None
        self._reachable()
        return str(status.get("status")).lower() == "online"

    def _give_up_if_lost(self, call: OpenCall, moment: float) -> None:
        begun = call.taken if call.taken is not None else moment
        core = self._silence.silent(call.lane.target.endpoint_id, begun, moment)
        user = (
            self._silence.silent(call.lane.user_endpoint, begun, moment) if call.lane.user_endpoint else 0.0
        )
        if core > self._lost_after:
            self._calls.fail([call], lambda lost: failures.endpoint_silent(core, lost.place))
        elif user > self._lost_after:
            self._calls.fail(
                [call],
                lambda lost: failures.user_endpoint_silent(user, lost.lane.user_endpoint, lost.place),
            )

    # The service itself

    def _reachable(self) -> None:
        self._unreachable_since = None

    def _trouble(self, error: AppflGcError) -> None:
        """The service could not be asked: pushed results may still come, so calls wait for a while."""
        taken = [call for call in self._mine() if call.taken is not None]
        if isinstance(error, LoginError) and self._submitter.identity.waits_for_login:
            for call in taken:
                self._calls.tell(call, CallState.WAITING_FOR_LOGIN, f"{error.message} {error.hint}")
            return
        moment = time.monotonic()
        if self._unreachable_since is None:
            self._unreachable_since = moment
        seconds = moment - self._unreachable_since
        if seconds > self._lost_after:
            self._calls.fail(taken, lambda call: failures.unreachable_for(seconds, call.place))
