"""What every control plane is: one operation, and a statement of what it can do."""

from __future__ import annotations

import enum
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reply import Reply


@dataclass(frozen=True)
class Capabilities:
    """What a control plane can do.

    Attributes:
        name: how messages call it.
        inline_limit: largest payload, in bytes before base64, that fits into a call or a reply.
        shared_file_system: whether server and sites reach the same files.
        reattach: whether calls in flight survive the server.
        cancel: whether a running call can be stopped at the site.
    """

    name: str
    inline_limit: int
    shared_file_system: bool
    reattach: bool
    cancel: bool


class CallState(str, enum.Enum):
    """Where a call is on its way, as far as the control plane learns of it."""

    SENDING = "sending"
    WAITING_FOR_LOGIN = "waiting for a login"
    WAITING_FOR_ENDPOINT = "waiting for the endpoint"
    WAITING_FOR_NODES = "waiting for nodes"
    WAITING_FOR_WORKER = "waiting for a worker"
    RUNNING = "running"


@dataclass(frozen=True)
class Progress:
    """A call in flight reached ``state``; ``detail`` is a sentence for people, or "".

    ``task`` is the service's number of the call, once it has one.
    """

    call: Call
    state: CallState
    detail: str = ""
    task: str = ""


Listener: TypeAlias = Callable[[Progress], None]
"""Hears of progress, from any thread; it must return at once."""


class ControlPlane(Protocol):
    """Delivers calls."""

    @property
    def capabilities(self) -> Capabilities:
        """What this control plane can do."""

    def task_group(self, call: Call) -> str:
        """Where the service keeps ``call``, for the journal before it is submitted; "" without a service."""

    def submit(self, call: Call) -> Future[Reply]:
        """Send ``call`` to the site of its client.

        The future's result is the reply, checked to answer this call. Its exception is always a
        ``DeliveryError`` (or a subclass): user errors are replies.
        """

    def attach(self, call: Call, group: str, task: str) -> Future[Reply]:
        """Wait for the answer to ``call``, which an earlier process sent. Returns at once.

        The future is as that of ``submit``. It fails with a ``ForgottenError`` where the control plane does not know
        the call any more, or never did.

        Args:
            call: with the identity, attempt and nonce that it was sent with; nothing else of it need be complete.
            group: its ``task_group``.
            task: the service's number of it, or "" if that was not heard of.
        """

    def close(self) -> None:
        """Stop at once: never waits for a site. Calls in flight fail with ``DeliveryError``."""
