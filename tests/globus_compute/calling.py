"""Calls through a plane of its own, without a run around them."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.control.globus_compute.identity import default_identity
from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings, Target
from appfl_gc.control.plane import CallState, Progress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.source import Source

DEADLINE = 120
# No test waits for the rate limit, but the one that is about it.
QUICK = PlaneSettings(requests=1000, requests_seconds=1.0)


@dataclass
class Caller:
    """Submits calls over ``plane`` and remembers what it heard."""

    plane: GlobusComputePlane
    heard: list[Progress]
    round: int = 0
    holding: list[Path] = field(default_factory=list)

    def hello(self, client: str = "A", payload_bytes: int = 0) -> Future[Reply]:
        payloads = {}
        if payload_bytes:
            text = "A" * (4 * ((payload_bytes + 2) // 3))
            payloads["model"] = Ref("inline", text, payload_bytes, "none", "none")
        return self.plane.submit(call_of(client, self.round, payloads))

    def work(self, body: str, client: str = "A") -> Future[Reply]:
        """A call whose user code is ``body``; it returns a dataset and None."""
        text = "import os, sys, time\n\ndef load():\n" + textwrap.indent(textwrap.dedent(body), "    ")
        source = Source("dataset", "load", "dataset.py", text)
        config = {"data_configs": {"dataset_kwargs": {}}, "model_configs": {}, "train_configs": {}}
        args = {"config": config, "sources": {"dataset": source.to_json()}}
        identity = CallId("run", self.round, client)
        return self.plane.submit(Call(identity, "trainer.sample_size", args, nonce="n"))

    def held(self, directory: Path, client: str = "A") -> Future[Reply]:
        """A call that writes its process id to ``held`` and is done when a file ``go`` is there.

        It does not outlive ``calling``: the only worker would be held for the tests that follow.
        """
        self.holding.append(directory)
        return self.work(
            f"""
            with open({str(directory / "held.new")!r}, "w") as file:
                file.write(str(os.getpid()))
            os.rename({str(directory / "held.new")!r}, {str(directory / "held")!r})
            while not os.path.exists({str(directory / "go")!r}):
                time.sleep(0.02)
            return [0], None
            """,
            client,
        )

    def states(self, client: str = "A") -> list[CallState]:
        return [progress.state for progress in self.heard if progress.call.identity.client == client]

    def details(self) -> str:
        return " ".join(progress.detail for progress in self.heard)


def call_of(client: str, round_: int, payloads: Mapping[str, Ref] | None = None) -> Call:
    return Call(CallId("run", round_, client), "site.hello", {}, payloads or {}, nonce="n")


@contextlib.contextmanager
def calling(targets: Mapping[str, Target] | str, settings: PlaneSettings = QUICK) -> Iterator[Caller]:
    """A plane to ``targets``, or with the clients A to D at one endpoint."""
    if isinstance(targets, str):
        targets = {client: Target(targets, default_identity()) for client in "ABCD"}
    heard: list[Progress] = []
    plane = GlobusComputePlane(targets, settings, heard.append)
    caller = Caller(plane, heard)
    try:
        yield caller
    finally:
        plane.close()
        for directory in caller.holding:
            (directory / "go").touch()
