"""The knobs of a sandbox."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import asdict, dataclass

from appfl_gc.sandbox.errors import SandboxError


@dataclass(frozen=True)
class SandboxSettings:
    """How the service behaves; the defaults are the cloud's where the cloud documents them.

    Attributes:
        payload_limit_bytes: a larger submit request is refused with 413 ``TASK_PAYLOAD_TOO_LARGE``.
        requests: this many Compute requests of one identity are accepted in ``requests_seconds``; more get a 429
            with ``Retry-After``. 0: no limit.
        requests_seconds: the window of ``requests``, in seconds.
        lost_after_seconds: tasks that an endpoint has accepted fail when nothing was heard of it for this long;
            ``None``: they stay pending for ever.
        start_wait_seconds: a submit waits this long for the user endpoint to start, and is refused with 422
            ``SEMANTICALLY_INVALID`` if the start fails. 0: it returns at once and the tasks fail instead.
        check_schema: refuse a ``user_endpoint_config`` that the endpoint's published schema does not allow.
        token_seconds: lifetime of access tokens.
        host: the address to listen on; only a loopback address is accepted.
    """

    payload_limit_bytes: int = 10_000_000
    requests: int = 20
    requests_seconds: float = 10.0
    lost_after_seconds: float | None = 100.0
    start_wait_seconds: float = 0.0
    check_schema: bool = True
    token_seconds: int = 172_800
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        try:
            loopback = ipaddress.IPv4Address(self.host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise SandboxError(
                f"A sandbox listens on a loopback address only, not on {self.host}: whoever reaches it can run "
                "code as you.",
                "Leave the address at 127.0.0.1; from another machine, use an SSH tunnel.",
            )

    def to_json(self) -> str:
        """The settings as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SandboxSettings:
        """The settings that ``to_json`` wrote."""
        return cls(**json.loads(text))
