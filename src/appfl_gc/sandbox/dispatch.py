"""Start commands and tasks for endpoints, and the results of tasks for their submitters."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from appfl_gc.sandbox.accounts import HEARTBEATS, RESULTS, Account
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.link import Publisher
from appfl_gc.sandbox.messages import result_message
from appfl_gc.sandbox.model import Endpoint, Model, Outcome, Task, UserEndpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dispatch:
    """Everything that the service sends. Callers hold ``model.changed``.

    Attributes:
        agent_url: the connection URL of an account, by the way that agents take.
    """

    model: Model
    publisher: Publisher
    agent_url: Callable[[Account], str]

    def open_endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        """Make an endpoint's command queue and say what its agent connects to."""
        account = endpoint.owner.account
        queue = account.commands(endpoint.id)
        self.publisher.declare(queue)
        self.publisher.purge(queue)  # commands that are older than this registration
        for user_endpoint in self.model.user_endpoints.values():
            if user_endpoint.core is endpoint and user_endpoint.unfinished:
                self.start(user_endpoint)
        return {
            "endpoint_id": endpoint.id,
            "command_queue_info": {"connection_url": self.agent_url(account), "queue": queue},
            "heartbeat_queue_info": self._publishing(account, HEARTBEATS),
        }

    def close_endpoint(self, endpoint: Endpoint) -> None:
        """Remove an endpoint's command queue, which ends its agent."""
        self.publisher.delete(endpoint.owner.account.commands(endpoint.id))

    def start(self, user_endpoint: UserEndpoint) -> None:
        """Tell a core endpoint to start a user endpoint, or to refresh the credentials of a running one."""
        identity, core = user_endpoint.identity, user_endpoint.core
        queue = identity.account.tasks(user_endpoint.id)
        self.publisher.declare(queue)
        command = {
            "command": "cmd_start_endpoint",
            "args": [],
            "kwargs": {
                "name": f"uep.{core.id}.{user_endpoint.id}",
                "user_opts": user_endpoint.options,
                "user_runtime": user_endpoint.runtime,
                "amqp_creds": {
                    "endpoint_id": user_endpoint.id,
                    "task_queue_info": {"connection_url": self.agent_url(identity.account), "queue": queue},
                    "result_queue_info": self._publishing(identity.account, RESULTS),
                    "heartbeat_queue_info": self._publishing(identity.account, HEARTBEATS),
                },
            },
            "globus_effective_identity": identity.id,
            "globus_username": identity.username,
            "globus_identity_set": [{"sub": identity.id}],
        }
        if user_endpoint.pulse.online or user_endpoint.started is None:
            user_endpoint.taken = self.taken(user_endpoint)
        user_endpoint.start_error, user_endpoint.started = "", time.monotonic()
        queue = core.owner.account.commands(core.id)
        try:
            self.publisher.publish(queue, json.dumps(command).encode(), command=True)
        except ServiceError:
            log.info("endpoint %s has no command queue now; its tasks wait", core.id)

    def finish(self, task: Task, outcome: Outcome, body: bytes | None = None) -> None:
        """Record how a task ended and tell its group; ``body``: the endpoint's own message, passed on unchanged."""
        if task.outcome is not None:
            return
        task.outcome = outcome
        task.user_endpoint.unfinished.pop(task.id, None)
        queue = self.model.groups[task.group].queue
        if queue is not None:
            self.publisher.publish(queue, body if body is not None else result_message(task.id, outcome))
        self.model.changed.notify_all()

    def fail(self, task: Task, text: str) -> None:
        """End a task with an error of the service's own."""
        details = {"endpoint_id": task.user_endpoint.id}
        self.finish(task, Outcome(text, True, details, time.time()))

    def fail_all(self, user_endpoint: UserEndpoint, text: str) -> None:
        """End all tasks of a user endpoint, also those that it has not taken."""
        self.publisher.purge(user_endpoint.identity.account.tasks(user_endpoint.id))
        self.fail_some(list(user_endpoint.unfinished), text)

    def fail_some(self, task_ids: Iterable[str], text: str) -> None:
        """End those of the tasks that have not ended."""
        for task_id in task_ids:
            self.fail(self.model.tasks[task_id], text)

    def taken(self, user_endpoint: UserEndpoint) -> frozenset[str]:
        """The unfinished tasks that do not wait in a user endpoint's queue: what was sent first is taken first."""
        waiting = self.publisher.waiting(user_endpoint.identity.account.tasks(user_endpoint.id))
        unfinished = list(user_endpoint.unfinished)
        return frozenset(unfinished[: max(0, len(unfinished) - waiting)])

    def _publishing(self, account: Account, kind: str) -> dict[str, Any]:
        exchange = account.exchange(kind)
        return {
            "connection_url": self.agent_url(account),
            "exchange": exchange,
            "queue": kind,
            "queue_publish_kwargs": {
                "exchange": exchange,
                "routing_key": kind,
                "mandatory": True,
                "properties": {"delivery_mode": 2},
            },
        }
