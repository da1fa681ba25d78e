"""Follows the calls of one identity over REST: their states, their answers, and endpoints that went silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

from appfl_gc.control.globus_compute.failing import failures
from appfl_gc.control.globus_compute.following.cadence import Cadence
from appfl_gc.control.globus_compute.following.earlier import EarlierCalls
from appfl_gc.control.globus_compute.following.silence import Silence
from appfl_gc.control.globus_compute.following.task_row import is_over, process_of, result_of, state_of
from appfl_gc.control.globus_compute.rest.errors import ThrottledError
from appfl_gc.control.globus_compute.rest.turnstile import ClosingError
from appfl_gc.control.globus_compute.sending.lane import Lane
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.submitter import Submitter
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, EndpointError, LoginError
from appfl_gc.protocol.wire import Json, clean_text

TICK = 0.25
# Most pushed results are here within this many seconds; asking before would use up the service's rate.
FIRST_PUSHED = 3.0
FIRST_POLLED = 1.0
# Requests in the window of the rate limit that are kept for submitting.
SPARE = 6
SHORTEST_STATUS, LONGEST_STATUS = 2.0, 30.0
TASKS_A_REQUEST = 100
# The kinds of questions: each has its own silence, for one route of the service may fail alone.
TASKS, EARLIER, ENDPOINTS = "tasks", "earlier tasks", "endpoints"
UNKNOWN_LIFE = "The service does not tell whether the endpoint is online; the call waits for its answer."


class Follower:
    """One thread for one identity.

    What it knows of a site's life is what the service tells of endpoints. The service tells which user endpoint runs
    a task only once that has started or answered, and need not tell the status of a user endpoint at all: until and
    where it does not, the user endpoint counts as alive, and only its endpoint's silence gives its calls up.

    Args:
        submitter: the identity's part.
        calls: the plane's open calls.
        lost_after: seconds of silence after which a call is given up.
        pushed_pause, polled_pause: longest seconds between questions, with results pushed and polled.
        answered: gets what a site sent for a call (text).
        failed: gets why the service or the site says a call failed (text).
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
        self._questions = Silence()
        self._forgotten = Silence()
        self._seen: set[str] = set()
        self._strangers: dict[Lane, str] = {}
        self._earlier = EarlierCalls(submitter, calls, polled_pause, answered, self._told)
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
            except Exception as error:  # noqa: BLE001  without this thread calls would wait for ever
                self._trouble(TASKS, error)

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
        attached = [call for call in mine if call.attached]
        if self._earlier.due(attached):
            self._ask(EARLIER, lambda: self._ask_earlier(attached))
        taken = {call.task: call for call in mine if call.taken is not None and not call.attached}
        if taken.keys() - self._seen:
            self._cadence.restart(time.monotonic(), self._first)
        self._seen = set(taken)
        if taken and self._cadence.due(time.monotonic()):
            self._ask(TASKS, lambda: self._ask_tasks(taken))
        moment = time.monotonic()
        sent = [*attached, *taken.values()]
        waiting = [call for call in sent if moment - (call.taken or moment) >= self._status_period]
        if waiting:
            self._ask(ENDPOINTS, lambda: self._ask_endpoints(waiting))
        if self._submitter.probe_due:
            self._submitter.probe_results()

    def _prepare(self, mine: list[OpenCall]) -> None:
        def tell(state: CallState, detail: str) -> None:
            for call in self._mine():
                self._calls.tell(call, state, detail)

        try:
            self._submitter.prepare(tell)
        except ClosingError:
            raise
        except Exception as error:  # noqa: BLE001  nobody else would fail the calls
            why = _ours(error)
            self._calls.fail(self._mine(), lambda call: failures.located(why, call.place))
            return
        self._ready()

    def _ask(self, kind: str, question: Callable[[], None]) -> None:
        """Ask, and go on whatever comes of it: the other questions must not wait for this one."""
        try:
            question()
        except ClosingError:
            raise
        except Exception as error:  # noqa: BLE001  as in ``_serve``
            self._trouble(kind, error)

    def _heard(self, kind: str) -> None:
        """The service answered a question of that kind."""
        self._submitter.turnstile.accepted()
        self._questions.heard(kind, True, time.monotonic())

    # Tasks

    def _ask_tasks(self, taken: dict[str, OpenCall]) -> None:
        strangers, self._strangers = self._strangers, {}
        news = False
        asked = [*taken, *strangers.values()]
        for begin in range(0, len(asked), TASKS_A_REQUEST):
            self._submitter.turnstile.room(SPARE)
            batch = asked[begin : begin + TASKS_A_REQUEST]
            rows = self._submitter.service.task_batch(batch)
            for lane, task in strangers.items():
                self._learn(lane, rows.get(task, {}))
            for task, row in rows.items():
                if task in taken:
                    news = self._told(taken[task], row) or news
            self._give_up_forgotten([taken[task] for task in batch if task in taken], rows.keys())
            self._heard(TASKS)
        longest = self._pushed_pause if self._submitter.push else self._polled_pause
        self._cadence.asked(time.monotonic(), news, self._first, longest)

    def _ask_earlier(self, attached: list[OpenCall]) -> None:
        self._earlier.ask(attached, SPARE)
        self._heard(EARLIER)

    def _told(self, call: OpenCall, row: Mapping[str, Json]) -> bool:
        """Take in what the service says of a task; whether it is news."""
        self._learn(call.lane, row)
        result = result_of(row)
        if result is not None:
            self._answered(call, result)
            return True
        if is_over(row):
            self._failed(call, str(row.get("exception") or row.get("reason") or "No reason was given."))
            return True
        state = state_of(row)
        if state is None or state is call.state:
            return False
        self._calls.tell(call, state)
        return True

    def _give_up_forgotten(self, asked: list[OpenCall], known: Collection[str]) -> None:
        """Give up the calls whose tasks the service has not known for too long."""
        moment = time.monotonic()
        for call in asked:
            self._forgotten.heard(call.task, call.task in known, moment)
        lost = [call for call in asked if _met(self._forgotten, call.task, call, moment) > self._lost_after]
        self._calls.fail(lost, lambda call: _forgotten(self._lost_after, call.place))

    def _learn(self, lane: Lane, row: Mapping[str, Json]) -> None:
        process = process_of(row)
        if process and process != lane.target.endpoint_id:
            lane.user_endpoint = process

    # Silence

    def _ask_endpoints(self, taken: list[OpenCall]) -> None:
        endpoints = {call.lane.target.endpoint_id for call in taken}
        endpoints |= {call.lane.user_endpoint for call in taken if call.lane.user_endpoint}
        endpoint = self._silence.due(endpoints, time.monotonic(), self._status_period)
        if endpoint is None:
            return
        self._submitter.turnstile.room(SPARE)
        self._silence.asked(endpoint, time.monotonic())
        online = self._online(endpoint)
        self._heard(ENDPOINTS)
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
        """Whether the service says so; None where it refuses to tell, which user endpoints may meet."""
        try:
            status = self._submitter.service.endpoint_status(endpoint)
        except EndpointError:
            return None
        return str(status.get("status")).lower() == "online"

    def _give_up_if_lost(self, call: OpenCall, moment: float) -> None:
        lane = call.lane
        core = _met(self._silence, lane.target.endpoint_id, call, moment)
        user = _met(self._silence, lane.user_endpoint, call, moment)
        if core > self._lost_after:
            self._calls.fail([call], lambda lost: failures.endpoint_silent(core, lost.place))
        elif user > self._lost_after:
            self._calls.fail(
                [call],
                lambda lost: failures.user_endpoint_silent(user, lost.lane.user_endpoint, lost.place),
            )

    # The service itself

    def _trouble(self, kind: str, error: Exception) -> None:
        """The service could not be asked: pushed results may still come, so calls wait for a while."""
        taken = [call for call in self._mine() if call.taken is not None]
        moment = time.monotonic()
        if kind == TASKS:
            self._cadence.asked(moment, False, FIRST_POLLED, self._polled_pause)
        if isinstance(error, LoginError):
            if self._submitter.identity.waits_for_login:
                for call in taken:
                    self._calls.tell(call, CallState.WAITING_FOR_LOGIN, f"{error.message} {error.hint}")
            else:
                self._calls.fail(taken, lambda call: failures.located(error, call.place))
        elif isinstance(error, ThrottledError):
            self._questions.heard(kind, True, moment)
            self._submitter.turnstile.throttled(error.retry_after)
        else:
            self._questions.heard(kind, False, moment)
            if kind != ENDPOINTS:
                taken = [call for call in taken if call.attached is (kind == EARLIER)]
            lost = [call for call in taken if _met(self._questions, kind, call, moment) > self._lost_after]
            if kind != ENDPOINTS:
                self._calls.fail(lost, lambda call: failures.unreachable_for(self._lost_after, call.place))
            for call in lost:
                self._calls.tell(call, call.state, UNKNOWN_LIFE)


def _ours(error: Exception) -> AppflGcError:
    if isinstance(error, AppflGcError):
        return error
    return DeliveryError(f"The service could not be made ready for calls: {clean_text(repr(error), 500)}")


def _met(silence: Silence, name: str, call: OpenCall, moment: float) -> float:
    """Seconds of the silence of ``name`` that the call has met at the service."""
    return silence.silent(name, moment if call.taken is None else call.taken, moment)


def _forgotten(seconds: float, place: failures.Place) -> AppflGcError:
    error = DeliveryError(
        f"The Globus Compute service has not known the task for {seconds:.0f} s; the call is given up.",
        "It keeps tasks for a limited time. The call can be sent anew.",
    )
    return failures.located(error, place)
