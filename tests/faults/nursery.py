"""Servers of runs as processes of their own, started in milliseconds, which a test breaks at any point."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appfl_gc.sandbox.children import die_with_parent
from tests.faults.forked_worker import Cradle, ForkedEngine, die_with

DEADLINE = 180.0
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Break:
    """Something of ``tests.faults.breaking`` that is done to a server before it begins."""

    name: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Served:
    """What became of a server.

    Attributes:
        status: its exit status; minus the signal's number if one killed it.
        outcome: of the run, such as ``finished``; "" if it returned none.
        error: what the run, or the exception, says; "" if nothing.
        error_class: of that error.
        run_dir: of the run; None if it could not be made.
    """

    status: int
    outcome: str = ""
    error: str = ""
    error_class: str = ""
    rounds: int = 0
    run_dir: Path | None = None

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.status == -signal.SIGKILL


@dataclass(frozen=True)
class Job:
    """What servers are started for.

    Attributes:
        server, clients: the run's YAML files.
        output: where its directory is made; nothing else is there.
        real_workers: whether workers on this machine are those that runs have otherwise, and not forked.
        name: for the test.
    """

    server: Path
    clients: Path
    output: Path
    real_workers: bool = False
    name: str = ""


class Nursery:
    """A process that forks servers. Use it as a context; its servers end with it.

    Args:
        directory: for logs and results.
        environment: laid over this process's.
        tmpfs: a directory that is, for the servers alone, a file system in memory.
        size: of that, bytes.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        tmpfs: Path | None = None,
        size: int = 0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log = directory / "servers.log"
        self._tmpfs = tmpfs
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.faults.nursery", str(theirs.fileno())]
        if tmpfs is not None:
            mount = f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(str(tmpfs))}"
            command = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                preexec_fn=die_with_parent(os.getpid()),
            )
        theirs.close()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait(30)

    def inside(self, path: Path) -> Path:
        """``path`` as the servers see it."""
        return path if self._tmpfs is None else Path(f"/proc/{self._process.pid}/root{path}")

    def shell(self, command: str) -> None:
        """Run ``command`` where the servers run."""
        assert self._ask({"shell": command}) == 0, self.log.read_text()[-3000:]

    def run(self, job: Job, *breaks: Break, deadline: float = DEADLINE) -> Served:
        """A server that runs ``job`` from its beginning."""
        return self.wait(self.start(job, *breaks), deadline)

    def resume(self, job: Job, *breaks: Break, deadline: float = DEADLINE) -> Served:
        """A server that goes on with it."""
        return self.wait(self.start(job, *breaks, resume=True), deadline)

    def start(self, job: Job, *breaks: Break, resume: bool = False) -> int:
        """Start a server; its process id, which is that of its session and process group too."""
        request = {
            "run_dir": str(self._run_dir(job)) if resume else "",
            "server": str(job.server),
            "clients": str(job.clients),
            "overrides": [f"server_configs.logging_output_dirname={job.output}"],
            "real_workers": job.real_workers,
            "breaks": [dataclasses.asdict(one) for one in breaks],
            "result": str(self.directory / "result.json"),
        }
        return int(self._ask(request))

    def _run_dir(self, job: Job) -> Path:
        (found,) = self.inside(job.output).iterdir()
        return job.output / found.name

    def wait(self, pid: int, deadline: float = DEADLINE) -> Served:
        """What becomes of a server; it is killed after ``deadline`` seconds, which is an error."""
        try:
            answer = self._ask({"wait": pid}, deadline)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)  # its threads' stacks go into the log
            self._read(30)
            raise TimeoutError(f"A server did not end: {self.log.read_text()[-6000:]}") from None
        run_dir = answer.pop("run_dir", None)
        return Served(**answer, run_dir=None if run_dir is None else Path(run_dir))

    def _ask(self, request: dict[str, Any], deadline: float = DEADLINE) -> Any:
        self._socket.send(json.dumps(request).encode())
        return self._read(deadline)

    def _read(self, deadline: float) -> Any:
        self._socket.settimeout(deadline)
        answer = self._socket.recv(1 << 20)
        assert answer, f"The nursery has ended: {self.log.read_text()[-3000:]}"
        return json.loads(answer)


def serve(asked: socket.socket) -> None:
    """Fork what is asked for, until nobody asks any more."""
    while message := asked.recv(1 << 20):
        request = json.loads(message)
        answer: Any
        if "wait" in request:
            answer = _waited(request["wait"])
        elif "shell" in request:
            answer = subprocess.run(request["shell"], shell=True, check=False).returncode
        else:
            answer = _forked(asked, request)
        asked.send(json.dumps(answer).encode())


_RESULTS: dict[int, Path] = {}


def _forked(asked: socket.socket, request: dict[str, Any]) -> int:
    nursery, result = os.getpid(), Path(request["result"])
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        asked.close()
        os.setsid()
        die_with(nursery)
        status = 1
        try:
            _serve(request, result)
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)
    _RESULTS[pid] = result
    return pid


def _waited(pid: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, 0)
    found, result = {"status": os.waitstatus_to_exitcode(status)}, _RESULTS.pop(pid)
    if result.exists():
        found |= json.loads(result.read_text())
    return found


def _serve(request: dict[str, Any], result: Path) -> None:
    """Be a server."""
    cradle = None if request["real_workers"] else Cradle()
    import functools

    import appfl_gc
    from appfl_gc.control.local import slot
    from appfl_gc.protocol.errors import AppflGcError

    if cradle is not None:
        slot.LocalEngine = functools.partial(ForkedEngine, cradle)  # type: ignore[misc,assignment]
    breaking = importlib.import_module("tests.faults.breaking")
    for one in request["breaks"]:
        getattr(breaking, one["name"])(*one["arguments"])
    try:
        if request["run_dir"]:
            done = appfl_gc.resume(request["run_dir"])
        else:
            done = appfl_gc.run(request["server"], request["clients"], overrides=request["overrides"])
    except AppflGcError as error:
        told = {"error": str(error), "error_class": error.error_class.value}
    else:
        told = {
            "outcome": done.outcome.value,
            "error": "" if done.error is None else str(done.error),
            "error_class": "" if done.error is None else done.error.error_class.value,
            "rounds": done.rounds,
            "run_dir": str(done.run_dir),
        }
    result.write_text(json.dumps(told))


def import_everything() -> None:
    """What servers and workers import, so that those who are forked need not."""
    import numpy.random
    import torch._dynamo  # a new optimiser imports it
    import torch.utils.data
    from globus_compute_endpoint.engines import helper

    import appfl_gc.runner.api
    import appfl_gc.site.handle
    import appfl_gc.site.roles.trainer_role

    assert numpy and torch and helper and appfl_gc  # imported, not used


if __name__ == "__main__":
    import faulthandler

    faulthandler.enable()
    import_everything()
    import gc

    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))
