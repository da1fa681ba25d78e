"""The faults and the inside of a running sandbox, from another process."""

from __future__ import annotations

import html
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.files import Description

ALL_WAYS = ("clients", "clients-443", "agents")
"""The ways to the broker: submitters', the one for their ``amqp_port`` setting, endpoint agents'."""


@dataclass(frozen=True)
class Control:
    """Calls to the sandbox's own routes."""

    description: Description

    def get(self, route: str) -> Any:
        """Read; raises ``SandboxError`` if the sandbox does not answer."""
        return self._request(route, None)

    def post(self, route: str, body: Any) -> Any:
        """Change; raises ``SandboxError`` if the sandbox does not answer, or refuses."""
        return self._request(route, json.dumps(body).encode())

    def log_in(self, authorize_url: str) -> str:
        """The code that the login page shows; raises ``SandboxError`` if it shows none."""
        key = urllib.parse.urlencode({"key": self.description.login_key}).encode()
        page = self._open(urllib.request.Request(authorize_url, data=key)).decode()
        found = re.search(r'<code id="code">([^<]+)</code>', page)
        if found is None:
            raise SandboxError("The sandbox's login page shows no code.")
        return html.unescape(found[1])

    def _request(self, route: str, body: bytes | None) -> Any:
        request = urllib.request.Request(
            f"{self.description.url}/sandbox/{route}",
            data=body,
            headers={"content-type": "application/json", "x-sandbox-token": self.description.admin_token},
        )
        return json.loads(self._open(request))

    @staticmethod
    def _open(request: urllib.request.Request) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                body: bytes = response.read()
                return body
        except urllib.error.HTTPError as error:
            raise SandboxError(f"The sandbox refused {request.selector}: {error.read().decode()}") from None
        except OSError as error:
            raise SandboxError(f"The sandbox does not answer: {error}.") from None


@dataclass(frozen=True)
class FaultControl:
    """Faults of a running sandbox; each stays until it is taken back."""

    control: Control

    def fail_next(self, count: int, status: int = 503, path: str = "") -> None:
        """Answer the next ``count`` requests to Compute and Auth with an HTTP status.

        Args:
            count: how many.
            status: the answer.
            path: only requests whose path ends so are counted and answered.
        """
        self.control.post("faults", {"failures": count, "status": status, "path": path})

    def slow(self, seconds: float) -> None:
        """Delay every answer of Compute and Auth; 0 ends it."""
        self.control.post("faults", {"slow_seconds": seconds})

    def drop_amqp(self, ways: Sequence[str] = ALL_WAYS) -> None:
        """Break the present AMQP connections; new ones are accepted."""
        self.control.post("amqp/drop", list(ways))

    def refuse_amqp(self, ways: Sequence[str] = ALL_WAYS) -> None:
        """Break the present AMQP connections and refuse new ones."""
        self.control.post("amqp/refuse", list(ways))

    def accept_amqp(self, ways: Sequence[str] = ALL_WAYS) -> None:
        """Accept AMQP connections again."""
        self.control.post("amqp/accept", list(ways))

    def forget_tokens(self, refresh: bool = False) -> None:
        """Forget all access tokens: requests get a 401 until there is a new one; with ``refresh`` logins end too."""
        self.control.post("forget-tokens", {"refresh": refresh})

    def forget_results(self) -> None:
        """Forget what the tasks that have ended returned; how they ended is still told."""
        self.control.post("forget-results", {})

    def forget_tasks(self) -> None:
        """Forget every task and task group; results of those that run go nowhere."""
        self.control.post("forget-tasks", {})

    def clear(self) -> None:
        """End all faults."""
        self.control.post("faults", {"failures": 0, "slow_seconds": 0})
        self.accept_amqp()
