"""Real agents for a sandbox, so that the example files' endpoints exist."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from appfl_gc.hpc.endpoint.agent import start
from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.options import EndpointOptions
from appfl_gc.sandbox.sandbox import Sandbox

ENDPOINT_ID = "00000000-5a4d-4b0c-8000-{:012d}"
"""Ids of the endpoints of a sandbox, from 1; the example files name them."""


SOCKET_PATH = 107
"""Bytes of the longest name of a Unix socket."""


def bring_up(sandbox: Sandbox, count: int, heartbeat_seconds: int, say: Callable[[str], None]) -> None:
    """Configure and start ``count`` agents of the facility ``local``; returns when they are registered.

    Raises:
        AppflGcError: if one can't be configured, or ends while it starts.
    """

    def one(number: int) -> str:
        name, endpoint_id = f"site{number}", ENDPOINT_ID.format(number)
        options = EndpointOptions(
            environment=_temporary(sandbox),
            settings={"max_workers_per_node": 1},
            directory=sandbox.files.sites / name,
            endpoint_id=endpoint_id,
            heartbeat_seconds=heartbeat_seconds,
            idle_seconds=0,
        )
        configure(name, options, sandbox.endpoints_directory)
        start(name, sandbox.endpoints_directory, {**os.environ, **sandbox.environment})
        return f"Endpoint {name} is up: {endpoint_id}"

    if count == 0:
        return
    with ThreadPoolExecutor(count) as pool:
        for line in pool.map(one, range(1, count + 1)):
            say(line)


def _temporary(sandbox: Sandbox) -> dict[str, str]:
    """Where workers make temporary files: in the sandbox, if the names of their sockets are short enough there."""
    directory = sandbox.files.root / "tmp"
    longest = directory / "pymp-12345678" / "listener-12345678"
    if len(os.fsencode(longest)) > SOCKET_PATH:
        return {}
    directory.mkdir(exist_ok=True)
    return {"TMPDIR": str(directory)}
