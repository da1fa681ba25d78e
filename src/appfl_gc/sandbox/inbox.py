"""What endpoints say: results and heartbeats. What they don't say any more: the watchdog."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from appfl_gc.sandbox.accounts import HEARTBEATS, RESULTS
from appfl_gc.sandbox.dispatch import Dispatch
from appfl_gc.sandbox.messages import unpack
from appfl_gc.sandbox.model import Model, Outcome, UserEndpoint


@dataclass(frozen=True)
class Inbox:
    """Handlers of the endpoints' messages; the exchange says whose account sent one."""

    model: Model
    dispatch: Dispatch

    def on_result(self, exchange: str, body: bytes) -> None:
        """Store a result and pass it on, if the task is one of the sender's and has not ended.

        Raises:
            ValueError: if the message is not a result.
        """
        kind, data = unpack(body)
        if kind != "result":
            raise ValueError("not a result")
        with self.model.changed:
            task = self.model.tasks.get(str(data.get("task_id")))
            if task is None or exchange != task.user_endpoint.identity.account.exchange(RESULTS):
                raise ValueError("a result of a task that is not the sender's")
            task.user_endpoint.pulse.sign()
            failed = data.get("error_details") is not None
            details = data.get("details") or {}
            self.dispatch.finish(task, Outcome(str(data.get("data")), failed, details, time.time()), body)

    def on_heartbeat(self, exchange: str, body: bytes) -> None:
        """Take a heartbeat of a core or user endpoint; one with ``error`` says that a start failed.

        Raises:
            ValueError: if the message is not a heartbeat of one of the sender's endpoints.
        """
        _, data = unpack(body)
        report: dict[str, Any] = data.get("global_state") or data.get("ep_status_report") or {}
        id_ = str(data.get("endpoint_id"))
        with self.model.changed:
            core, user_endpoint = self.model.endpoints.get(id_), self.model.user_endpoints.get(id_)
            if core is not None:
                self._check(exchange == core.owner.account.exchange(HEARTBEATS))
                core.pulse.beat(report)
            elif user_endpoint is not None:
                sender = user_endpoint.identity.account.exchange(HEARTBEATS)
                self._check(exchange == sender)
                self._beat(user_endpoint, report)
            self.model.changed.notify_all()

    @staticmethod
    def _check(is_sender: bool) -> None:
        if not is_sender:
            raise ValueError("a heartbeat of an endpoint that is not the sender's")

    def _beat(self, user_endpoint: UserEndpoint, report: dict[str, Any]) -> None:
        error = report.get("error")
        if error is not None:
            user_endpoint.start_error = str(error)
            self.dispatch.fail_all(user_endpoint, str(error))
            return
        instance = (report.get("posix_pid"), report.get("start_unix"))
        if user_endpoint.instance not in (None, instance):
            lost = "The user endpoint that had taken this task has ended; another one was started."
            self.dispatch.fail_some(user_endpoint.taken, lost)
        user_endpoint.instance, user_endpoint.started = instance, None
        user_endpoint.pulse.beat(report)
        if user_endpoint.pulse.stopped:
            user_endpoint.taken = self.dispatch.taken(user_endpoint)


@dataclass(frozen=True)
class Watchdog:
    """Fails the tasks of endpoints that have gone silent."""

    model: Model
    dispatch: Dispatch
    lost_after_seconds: float

    def run(self, stop: threading.Event) -> None:
        """Look a few times in each period until ``stop`` is set."""
        while not stop.wait(min(1.0, self.lost_after_seconds / 4)):
            with self.model.changed:
                for user_endpoint in self.model.user_endpoints.values():
                    if user_endpoint.unfinished and user_endpoint.pulse.silent_for(self.lost_after_seconds):
                        text = f"User endpoint {user_endpoint.id} stopped sending heartbeats."
                        self.dispatch.fail_some(self._lost(user_endpoint), text)

    def _lost(self, user_endpoint: UserEndpoint) -> Iterable[str]:
        """The tasks of its dead process; not those that a process may have which is being started."""
        started = user_endpoint.started
        if started is not None and time.monotonic() - started < self.lost_after_seconds:
            return user_endpoint.taken
        return self.dispatch.taken(user_endpoint)
