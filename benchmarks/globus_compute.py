"""What a call through a real endpoint costs beside the SDK's Executor alone, over a sandbox on this machine.

One real agent with one worker process (``ProcessPoolEngine``), the real SDK, a private RabbitMQ:

* ``executor``: a function that returns None, as plain source, through ``globus_compute_sdk.Executor``;
* ``plane``: ``site.hello`` without a configuration through ``GlobusComputePlane``: packing, requests within the
  service's rate, results pushed, reply parsed. ``site ms`` is what the site needs for that call by itself, here.

Both wait for two polls of half a second each that are fixed in SDK and agent, so that one call at a time takes half a
second or one whatever else is done. The sandbox's own limit on requests is off; the plane keeps the service's
20 requests in 10 seconds all the same, the Executor its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import report

from appfl_gc.control.plane import Progress
from appfl_gc.hpc.endpoint import agent
from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.options import POOL_ENGINE, EndpointOptions
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.sandbox.sandbox import Sandbox
from appfl_gc.sandbox.settings import SandboxSettings
from appfl_gc.site.entry import entry_requirements
from appfl_gc.site.handle import handle
from appfl_gc.version import VERSION

ENDPOINT = "00000000-5a4d-4b0c-8000-000000000001"
TARGET = 1.5
NOTHING = "def nothing():\n    return None\n"
Batch = Callable[[int], None]


def call(number: int) -> Call:
    return Call(CallId("benchmark", number, "Client1"), "site.hello", nonce="n")


def site_seconds() -> float:
    """What the site needs for one call, once its modules are loaded."""
    message, requires = call(0).to_json(), entry_requirements(VERSION)
    handle(message, requires)
    begun = time.perf_counter()
    for _ in range(20):
        handle(message, requires)
    return (time.perf_counter() - begun) / 20


def executor_batch(stack: ExitStack) -> Batch:
    from globus_compute_sdk import Executor
    from globus_compute_sdk.serialize import ComputeSerializer, JSONData

    # Its result watcher outlives it, and would tell at length that the sandbox has ended.
    logging.getLogger("globus_compute_sdk").setLevel(logging.CRITICAL + 1)
    executor = Executor(
        ENDPOINT,
        api_burst_limit=8,
        api_burst_window_s=1,
        serializer=ComputeSerializer(strategy_data=JSONData()),
    )
    stack.callback(executor.shutdown, wait=False, cancel_futures=True)
    function = executor.register_source_code(NOTHING, "nothing")

    def batch(calls: int) -> None:
        wait([executor.submit_to_registered_function(function) for _ in range(calls)])

    return batch


def plane_batch(stack: ExitStack) -> Batch:
    from appfl_gc.control.globus_compute.identity import default_identity
    from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings, Target

    def heard(progress: Progress) -> None:
        """Nobody looks."""

    clients = {f"Client{i}": Target(ENDPOINT, default_identity(), None, None) for i in range(1, 101)}
    plane = GlobusComputePlane(clients, PlaneSettings(), heard)
    stack.callback(plane.close)
    rounds = iter(range(1, 10_000))

    def batch(calls: int) -> None:
        number = next(rounds)
        identities = (CallId("benchmark", number, client) for client in list(clients)[:calls])
        futures = [plane.submit(Call(one, "site.hello", nonce="n")) for one in identities]
        for future in futures:
            if future.result().error is not None:
                raise RuntimeError(str(future.result().error))

    return batch


def measure(batches: dict[str, Batch], calls: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each batch, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    for _ in range(repeats):
        for name, batch in batches.items():
            begun = time.perf_counter()
            batch(calls)
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = stack.enter_context(Sandbox.start(directory / "sandbox", SandboxSettings(requests=0)))
        settings = EndpointOptions(
            facility="local", engine=POOL_ENGINE, settings={"max_workers_per_node": 1}, endpoint_id=ENDPOINT,
            directory=directory / "site", heartbeat_seconds=5,
        )  # fmt: skip
        configure("benchmark", settings, sandbox.endpoints_directory)
        os.environ.update(sandbox.environment)  # the SDK reads it when it is imported
        agent.start("benchmark", sandbox.endpoints_directory, environ=dict(os.environ), deadline_seconds=60)
        stack.callback(agent.stop, "benchmark", sandbox.endpoints_directory)
        batches = {"executor": executor_batch(stack), "plane": plane_batch(stack)}
        for batch in batches.values():
            batch(2)  # the worker starts, and imports what it needs
        site = site_seconds()
        for calls in options.calls:
            seconds = measure(batches, calls, options.repeats)
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            rows.append(
                {
                    "calls at once": calls,
                    "executor s": medians["executor"],
                    "plane s": medians["plane"],
                    "plane/executor": medians["plane"] / medians["executor"],
                    "least ratio": min(seconds["plane"]) / min(seconds["executor"]),
                    "site ms": 1000 * site * calls,
                }
            )
    report.show("Calls through a real endpoint", rows)
    worst = max(row["plane/executor"] for row in rows)
    summary = [report.verdict("call through a real endpoint", "the SDK's Executor", worst, TARGET)]
    if options.json:
        report.write(options.json, {"rows": rows, "summary": summary})


if __name__ == "__main__":
    main()
