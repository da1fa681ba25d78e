"""A lane: calls of one identity to one endpoint with one configuration, one request at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.sending.open_call import OpenCall
from appfl_gc.control.globus_compute.sending.packing import MOST_CALLS, fitting, room
from appfl_gc.control.globus_compute.sending.sdk_client import PlaneClient
from appfl_gc.control.globus_compute.sending.sdk_internals import PlaneExecutor
from appfl_gc.protocol.wire import Json

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.sending.submitter import Submitter


@dataclass(frozen=True)
class Target:
    """Where a client's calls go, and as whom.

    Attributes:
        endpoint_id: UUID of the endpoint.
        identity: who submits.
        user_endpoint_config: what the endpoint's template takes, or None.
        resource_specification: resources of each task, or None.
    """

    endpoint_id: str
    identity: Identity
    user_endpoint_config: dict[str, Json] | None = None
    resource_specification: dict[str, Json] | None = None


@dataclass(eq=False)
class Lane:
    """Its calls wait here until they fit into a request, and are handed to one ``Executor``.

    Attributes:
        target: where the calls go.
        submitter: what its identity has in common.
        waiting: calls to send, oldest first.
        handed: calls given to the Executor that the service has not taken yet.
        most: calls in a request; fewer after the service found one too large.
        user_endpoint: UUID of the process that runs this lane's calls, "" while unknown.
        not_before: monotonic seconds before which nothing is sent.
    """

    target: Target
    submitter: Submitter
    waiting: deque[OpenCall] = field(default_factory=deque)
    handed: set[OpenCall] = field(default_factory=set)
    most: int = MOST_CALLS
    user_endpoint: str = ""
    not_before: float = 0.0
    client: PlaneClient | None = None
    executor: PlaneExecutor | None = None

    def room(self, limit: int) -> int:
        """Bytes for calls in one request of ``limit`` bytes."""
        return room(limit, self.target.user_endpoint_config, self.target.resource_specification)

    def next_request(self, limit: int) -> list[OpenCall]:
        """Take the oldest waiting calls of one task group that fit into one request."""
        group = self.waiting[0].group
        same = [call for call in self.waiting if call.group == group][: self.most]
        chosen = same[: fitting((call.size for call in same), self.room(limit))]
        for call in chosen:
            self.waiting.remove(call)
        return chosen

    def retire(self) -> None:
        """End the Executor."""
        if self.executor is not None:
            self.executor.retire()
            self.executor = None
