"""Finds the answers to calls that an earlier process sent, by what the service remembers of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping

from appfl_gc.control.globus_compute.failing.failures import located
from appfl_gc.control.globus_compute.following.cadence import Cadence
from appfl_gc.control.globus_compute.following.task_row import is_over, result_of
from appfl_gc.control.globus_compute.sending.open_call import OpenCall, OpenCalls
from appfl_gc.control.globus_compute.sending.submitter import Submitter
from appfl_gc.control.message import answers
from appfl_gc.protocol.errors import EndpointError, ForgottenError
from appfl_gc.protocol.wire import Json

FIRST = 1.0
TASKS_A_REQUEST = 100
# Tasks of a group may be anybody's in this run, and each brings its whole result.
LISTED_A_REQUEST = 10
# A call that is sent again costs little: its site answers from its outbox, or lets it wait for the first.
WAIT_FOR_LISTED = 60.0
HINT = "The call is sent again; a site that has answered it does so from its outbox."

Row = Mapping[str, Json]


class EarlierCalls:
    """The attached calls of one identity. They are polled: what was pushed is the earlier process's.

    A call whose task is known follows that task. One whose task was never heard of is looked for in its task group:
    the first result there with its identity and nonce answers it. Tasks of the group that have not ended may be the
    call's, so they are waited for, up to ``WAIT_FOR_LISTED`` seconds. What the service does not know is forgotten.

    Args:
        submitter: the identity's part.
        calls: the plane's open calls.
        longest_pause: seconds between questions.
        answered: gets what a site sent for a call (text).
        told: gets what the service says of the task of a call; returns whether it is news.
    """

    def __init__(
        self,
        submitter: Submitter,
        calls: OpenCalls,
        longest_pause: float,
        answered: Callable[[OpenCall, str], None],
        told: Callable[[OpenCall, Row], bool],
    ) -> None:
        self._submitter = submitter
        self._calls = calls
        self._longest_pause = longest_pause
        self._answered = answered
        self._told = told
        self._cadence = Cadence()
        self._seen: set[OpenCall] = set()
        self._listed: dict[OpenCall, set[str]] = {}

    def due(self, attached: Collection[OpenCall]) -> bool:
        """Whether to ask about these now: at once about a new one."""
        if not self._seen.issuperset(attached):
            self._cadence.restart(time.monotonic(), 0.0)
        self._seen = set(attached)
        return bool(attached) and self._cadence.due(time.monotonic())

    def ask(self, attached: Collection[OpenCall], spare: int) -> None:
        """Ask about all of them, leaving room for ``spare`` more pressing requests.

        Raises:
            ClosingError: if the run ends.
            AppflGcError: if the service does not answer.
        """
        named = {call.task: call for call in attached if call.task}
        nameless = [call for call in attached if not call.task]
        # Also where the service fails: the next question waits.
        self._cadence.asked(time.monotonic(), False, FIRST, self._longest_pause)
        news = self._ask_named(named, spare)
        if nameless:
            self._list(nameless, named.keys(), spare)
            news = self._ask_listed(nameless, spare) or news
        self._listed = {call: tasks for call, tasks in self._listed.items() if call in self._calls}
        self._cadence.asked(time.monotonic(), news, FIRST, self._longest_pause)

    def _ask_named(self, named: Mapping[str, OpenCall], spare: int) -> bool:
        rows = self._rows(named, TASKS_A_REQUEST, spare)
        for task in named.keys() - rows.keys():
            self._forget(
                [named[task]], "The Globus Compute service does not know the task of the call any more."
            )
        news = [self._take(named[task], row) for task, row in rows.items() if task in named]
        return any(news)

    def _take(self, call: OpenCall, row: Row) -> bool:
        if is_over(row) and result_of(row) is None and "exception" not in row:
            self._forget(
                [call], "The Globus Compute service has the call's task, but not its result any more."
            )
            return True
        return self._told(call, row)

    def _list(self, nameless: Iterable[OpenCall], named: Collection[str], spare: int) -> None:
        """Learn which tasks the groups of new calls have."""
        tasks_of: dict[str, set[str]] = {}
        for call in nameless:
            if call in self._listed:
                continue
            if call.group not in tasks_of:
                tasks_of[call.group] = self._group(call.group, spare)
            self._listed[call] = tasks_of[call.group] - set(named)

    def _group(self, group: str, spare: int) -> set[str]:
        self._submitter.turnstile.room(spare)
        try:
            return set(self._submitter.service.task_group(group))
        except (ForgottenError, EndpointError):
            return set()

    def _ask_listed(self, nameless: Collection[OpenCall], spare: int) -> bool:
        listed = {task for call in nameless for task in self._listed[call]}
        rows = self._rows(sorted(listed), LISTED_A_REQUEST, spare)
        over = {task for task in listed if task not in rows or is_over(rows[task])}
        for call in nameless:
            for task in sorted(self._listed[call] & over & rows.keys()):
                text = result_of(rows[task])
                if text is not None and answers(text, call.call):
                    call.took(task)
                    self._answered(call, text)
                    break
            self._listed[call] -= over
        moment = time.monotonic()
        lost = [call for call in nameless if not self._listed[call] or moment - call.opened > WAIT_FOR_LISTED]
        self._forget(
            lost, "The Globus Compute service has no task in the call's task group that answers the call."
        )
        return bool(over)

    def _rows(self, tasks: Iterable[str], most: int, spare: int) -> dict[str, dict[str, Json]]:
        """What the service says of each task that it knows, however few requests that takes."""
        wanted = list(tasks)
        rows: dict[str, dict[str, Json]] = {}
        for begin in range(0, len(wanted), most):
            rows |= self._rows_of(wanted[begin : begin + most], spare)
        return rows

    def _rows_of(self, tasks: list[str], spare: int) -> dict[str, dict[str, Json]]:
        """One request; one task that is refused must not hide the others."""
        self._submitter.turnstile.room(spare)
        try:
            return self._submitter.service.task_batch(tasks)
        except (ForgottenError, EndpointError):
            if len(tasks) == 1:
                return {}
        half = len(tasks) // 2
        return self._rows_of(tasks[:half], spare) | self._rows_of(tasks[half:], spare)

    def _forget(self, calls: Iterable[OpenCall], why: str) -> None:
        self._calls.fail(calls, lambda call: located(ForgottenError(why, HINT), call.place))
