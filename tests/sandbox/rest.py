"""A client of the sandbox's REST service that adds nothing of its own, and waiting with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from appfl_gc.sandbox.files import Credentials
from appfl_gc.sandbox.identities import COMPUTE_SCOPE
from appfl_gc.sandbox.sandbox import Sandbox

DEADLINE = 120.0


class Rest:
    """Requests of one application."""

    def __init__(self, sandbox: Sandbox, credentials: Credentials) -> None:
        self.credentials = credentials
        self._client = httpx.Client(base_url=sandbox.description.url, trust_env=False, timeout=30)
        self._token = self.token()

    def token(self, secret: str | None = None) -> str:
        form = {"grant_type": "client_credentials", "scope": COMPUTE_SCOPE}
        who = (self.credentials.client_id, secret or self.credentials.client_secret)
        answer = self._client.post("/v2/oauth2/token", data=form, auth=who)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def request(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self._client.request(
            method, path, json=body, headers={"authorization": f"Bearer {self._token}"}
        )

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.request("POST", path, body)

    def register(self, endpoint_id: str, **document: Any) -> dict[str, Any]:
        answer = self.request("PUT", f"/v3/endpoints/{endpoint_id}", {"endpoint_name": "e", **document})
        answer.raise_for_status()
        return dict(answer.json())

    def function(self, **document: Any) -> str:
        body = {"function_name": "f", "function_code": "def f(): pass", "serialized": False, **document}
        return str(self.post("/v3/functions", body).json()["function_uuid"])

    def submit(self, endpoint_id: str, function_id: str, count: int = 1, **document: Any) -> httpx.Response:
        body = {"tasks": {function_id: ["payload"] * count}, **document}
        return self.post(f"/v3/endpoints/{endpoint_id}/submit", body)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and error code of a refusal."""
    return answer.status_code, answer.json()["code"]


def wait_until(happened: Callable[[], Any]) -> Any:
    """What ``happened`` answers once it is true; fails after ``DEADLINE`` seconds."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if answer := happened():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {DEADLINE:.0f} s")
