"""What the service remembers, in memory: endpoints, functions, tasks and task groups."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

from appfl_gc.sandbox.identities import Identity

SILENT_HEARTBEATS = 2.5
"""An endpoint that was quiet for this many of its heartbeats is shown as offline."""


@dataclass
class Pulse:
    """The life signs of an endpoint.

    Attributes:
        heard: when the last heartbeat came, in seconds of ``time.monotonic``; ``None``: never.
        period: what it said its heartbeat period is, in seconds.
        stopped: whether it said that it stops.
        report: the state in its last heartbeat.
    """

    heard: float | None = None
    period: float = 30.0
    stopped: bool = False
    report: dict[str, Any] = field(default_factory=dict)

    def beat(self, report: dict[str, Any]) -> None:
        """Take a heartbeat."""
        period = report.get("heartbeat_period")
        self.stopped = period == 0 or report.get("active") is False
        if isinstance(period, int | float) and period > 0:
            self.period = float(period)
        self.heard = time.monotonic()
        self.report = report

    def sign(self) -> None:
        """Take another sign of life, as a result is."""
        self.heard = time.monotonic()

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing was heard for that long; not if nothing ever was."""
        return self.heard is not None and time.monotonic() - self.heard > seconds

    @property
    def online(self) -> bool:
        """Whether it lives, as far as the service knows."""
        return (
            self.heard is not None
            and not self.stopped
            and not self.silent_for(self.period * SILENT_HEARTBEATS)
        )


@dataclass
class Endpoint:
    """A registered (core) endpoint: takes start commands, no tasks.

    Attributes:
        id: UUID.
        owner: who registered it.
        registration: the document that its agent sent.
        locked_until: registrations are refused until then, in seconds of ``time.monotonic``.
    """

    id: str
    owner: Identity
    registration: dict[str, Any]
    pulse: Pulse = field(default_factory=Pulse)
    locked_until: float = 0.0

    @property
    def multi_user(self) -> bool:
        """Whether other identities than the owner may ask it to start something."""
        return bool(self.registration.get("multi_user"))

    @property
    def public(self) -> bool:
        """Whether everybody may see it."""
        return bool(self.registration.get("public"))

    @property
    def metadata(self) -> dict[str, Any]:
        """Versions, host name, configuration, template, schema."""
        metadata = self.registration.get("metadata")
        return metadata if isinstance(metadata, dict) else {}

    @property
    def allowed_functions(self) -> list[str] | None:
        """The only functions that may run there; ``None``: any."""
        allowed = self.registration.get("allowed_functions")
        return None if allowed is None else [str(one) for one in allowed]


@dataclass
class UserEndpoint:
    """What runs tasks: one per core endpoint, submitting identity and ``user_endpoint_config``.

    Attributes:
        id: UUID, a function of the three.
        core: the endpoint that starts it.
        identity: whose tasks it runs.
        options: the ``user_endpoint_config``.
        runtime: the submitter's versions.
        unfinished: ids of tasks that were sent to it and have no result, oldest first.
        taken: the unfinished tasks that its present process has taken, as far as that is known.
        started: when the last start command was sent, in seconds of ``time.monotonic``; ``None`` once a heartbeat
            came.
        instance: which of its processes sent the last heartbeat.
        start_error: why its last start failed, or "".
    """

    id: str
    core: Endpoint
    identity: Identity
    options: dict[str, Any]
    runtime: dict[str, Any]
    pulse: Pulse = field(default_factory=Pulse)
    unfinished: dict[str, None] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    started: float | None = None
    instance: tuple[Any, Any] | None = None
    start_error: str = ""


@dataclass(frozen=True)
class Function:
    """A registered function: ``code`` is the first buffer of its tasks."""

    id: str
    owner: Identity
    code: str
    public: bool
    document: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        data: the result's text, or the text of the exception; ``None`` once the service has forgotten it.
        failed: whether it is an exception.
        details: versions and endpoint, as the endpoint told them.
        completed: seconds since the epoch.
    """

    data: str | None
    failed: bool
    details: dict[str, Any]
    completed: float


@dataclass
class Task:
    """One task.

    Attributes:
        group: its task group, whose queue gets the result.
        owner: who submitted it.
        outcome: ``None`` until it has ended.
    """

    id: str
    group: str
    owner: Identity
    function_id: str
    user_endpoint: UserEndpoint
    outcome: Outcome | None = None

    @property
    def status(self) -> str:
        """The task's state in the service's words, from what the endpoints last said."""
        if self.outcome is not None:
            return "failed" if self.outcome.failed else "success"
        pulse = self.user_endpoint.pulse
        if not self.user_endpoint.core.pulse.online or not pulse.online:
            return "waiting-for-ep"
        if pulse.report.get("active_managers") == 0:
            return "waiting-for-nodes"
        return "running"


@dataclass
class Group:
    """A task group.

    Attributes:
        queue: the queue for results, once somebody has asked for one.
    """

    id: str
    owner: Identity
    tasks: list[str] = field(default_factory=list)
    queue: str | None = None


@dataclass
class Model:
    """All of it. Hold ``changed`` (a lock) while reading or writing; notify it after heartbeats and results."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    user_endpoints: dict[str, UserEndpoint] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def forget_results(self) -> None:
        """Keep of every task that has ended only how it did, as after a result's time of keeping."""
        for task in self.tasks.values():
            if task.outcome is not None:
                task.outcome = replace(task.outcome, data=None)

    def forget_tasks(self) -> None:
        """Know no task and no group any more; what endpoints have goes on, and its results go nowhere."""
        self.tasks.clear()
        self.groups.clear()
        for user_endpoint in self.user_endpoints.values():
            user_endpoint.unfinished.clear()
            user_endpoint.taken = frozenset()
