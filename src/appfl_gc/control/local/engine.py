"""One single-worker engine of Globus Compute in this process."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from globus_compute_endpoint.engines import GCFuture, GlobusComputeEngine, ProcessPoolEngine

from appfl_gc.control.local.worker import prepare_worker
from appfl_gc.control.message import RESULT_SERIALIZERS
from appfl_gc.protocol.errors import DeliveryError, NotSupportedError
from appfl_gc.site.paths import SITE_STATE

ENGINES = ("ProcessPoolEngine", "GlobusComputeEngine")


@dataclass(frozen=True)
class EngineSettings:
    """What a local engine needs.

    Attributes:
        kind: one of ``ENGINES``.
        directory: where the engine keeps its files; user code runs in ``tasks_working_dir`` beneath it.
        site_state: directory of what the site keeps between calls.
        log: file for what workers print past Python's own streams.
    """

    kind: str
    directory: Path
    site_state: Path
    log: Path


class _WorkerProcess(SpawnProcess):
    """A spawned process that does not import the user's script.

    Nothing of it is needed, and a script that calls ``run`` without the usual guard would run again in there.
    """

    _starting = threading.Lock()

    def start(self) -> None:
        """Start with an empty ``__main__`` in sight; spawning reads there what to import."""
        with self._starting:
            script = sys.modules["__main__"]
            sys.modules["__main__"] = ModuleType("__main__")
            try:
                super().start()
            finally:
                sys.modules["__main__"] = script


class _RememberingContext(SpawnContext):
    """Spawn, since a process forked from one that has used torch hangs in its first backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[BaseProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # named by multiprocessing
        """A spawned process, remembered so that it can be ended."""
        process = _WorkerProcess(*args, **kwargs)
        self.started.append(process)
        return process


class LocalEngine:
    """An engine with one worker. Start it and submit to it from one long-lived thread.

    The kernel ties a worker's life to the thread that started it.
    """

    def __init__(self, settings: EngineSettings) -> None:
        settings.directory.mkdir(parents=True, exist_ok=True)
        self._kill: Callable[[], None]
        if settings.kind == "ProcessPoolEngine":
            context = _RememberingContext()
            self._engine = ProcessPoolEngine(
                max_workers=1,
                mp_context=context,
                initializer=prepare_worker,
                initargs=(str(settings.log), str(settings.site_state)),
            )
            self._kill = lambda: _kill_trees([p.pid for p in context.started if p.pid and p.is_alive()])
        elif settings.kind == "GlobusComputeEngine":
            self._engine = _globus_compute_engine(settings)
            self._kill = lambda: None
        else:
            raise NotSupportedError(
                f"The engine {settings.kind} is not supported yet.", f"Engines are {', '.join(ENGINES)}."
            )
        self._shut_down = threading.Lock()
        self._engine.start(endpoint_id=uuid.uuid4(), run_dir=str(settings.directory))

    def run(self, task_id: uuid.UUID, packed: bytes) -> bytes:
        """Run one packed task and wait for its packed result."""
        future = GCFuture(gc_task_id=task_id)
        self._engine.submit(future, packed, {}, result_serializers=RESULT_SERIALIZERS)
        result: bytes = future.result()
        return result

    def kill(self) -> None:
        """End the workers and everything that they started, at once. From any thread, any number of times."""
        self._kill()
        # Once: when two threads close the sockets of a GlobusComputeEngine, one of them hangs for good.
        if self._shut_down.acquire(blocking=False):
            self._engine.shutdown(block=False)


def _globus_compute_engine(settings: EngineSettings) -> Any:
    from parsl.providers import LocalProvider

    # The engine starts its workers by a command that lies beside this interpreter.
    binaries = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    if binaries not in path.split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([binaries, path])
    return GlobusComputeEngine(
        max_workers_per_node=1,
        address="127.0.0.1",
        heartbeat_period=2,
        heartbeat_threshold=10,
        provider=LocalProvider(
            init_blocks=1,
            max_blocks=1,
            worker_init=f"export {SITE_STATE}={shlex.quote(str(settings.site_state))}",
        ),
        working_dir=str(settings.directory / "tasks_working_dir"),
    )


def _kill_trees(pids: list[int]) -> None:
    processes = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            # The worker first: with its children gone, user code would go on and answer.
            processes += [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=5)


def check_platform() -> None:
    """Raise ``DeliveryError`` where Globus Compute's engines do not run."""
    if sys.platform != "linux":
        raise DeliveryError(
            f"The local engine does not run on {sys.platform}: Globus Compute's agent is for Linux only.",
            "Use a Linux machine, a virtual machine or a container.",
        )
