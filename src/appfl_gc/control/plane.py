"""What every control plane is: one operation, and a statement of what it can do."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

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


class ControlPlane(Protocol):
    """Delivers calls."""

    @property
    def capabilities(self) -> Capabilities:
        """What this control plane can do."""

    def submit(self, call: Call) -> Future[Reply]:
        """Send ``call`` to the site of its client.

        The future's result is the reply, checked to answer this call. Its exception is always a
        ``DeliveryError`` (or a subclass): user errors are replies.
        """

    def close(self) -> None:
        """Stop at once: never waits for a site. Calls in flight fail with ``DeliveryError``."""
