"""Run an endpoint's agent: start it in a session of its own, ask how it is, stop it with all that it started."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from appfl_gc.hpc.endpoint import processes
from appfl_gc.hpc.endpoint.agent_files import asked_for_login, last_words, read_json, read_pid, stamp
from appfl_gc.hpc.endpoint.configure import USER_DIRECTORY, user_directory
from appfl_gc.hpc.endpoint.files import CONFIG, IDENTIFIER, PID
from appfl_gc.hpc.endpoint.options import check_name
from appfl_gc.hpc.endpoint.token_file import make_token_file
from appfl_gc.hpc.endpoint.worker_environment import KEEP_ENVIRONMENT, MARKER, PROGRAM, binaries
from appfl_gc.protocol.errors import EndpointError, LoginError, NotSupportedError, UsageError, VersionError

START_SECONDS = 60.0
WORKER_PATIENCE = 3.0
STALE_SECONDS = 180.0
OUTPUT = "agent_output.log"
LOG = "endpoint.log"
HOST = "appfl_gc_host.json"

_POLL = 0.05


class State(str, enum.Enum):
    """How an agent is."""

    RUNNING = "running"
    STOPPED = "stopped"
    LEFTOVERS = "stopped, but processes are left"
    ELSEWHERE = "running on another machine"


@dataclass(frozen=True)
class AgentStatus:
    """What is known of an agent on this machine.

    Attributes:
        name: the endpoint's name.
        directory: its files.
        state: how it is.
        endpoint_id: its UUID, or None before it was ever registered.
        pid: the agent's process, or None.
        host: the machine that it was started on, or None.
        processes: ids of all its processes here.
    """

    name: str
    directory: Path
    state: State
    endpoint_id: str | None
    pid: int | None
    host: str | None
    processes: tuple[int, ...]


def start(
    name: str,
    user_dir: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    deadline_seconds: float = START_SECONDS,
) -> AgentStatus:
    """Start the agent of an endpoint and wait until the service has registered it.

    The agent goes on when this process ends. It runs in a session of its own: when it stops it signals its
    whole process group.

    Args:
        name: the endpoint.
        user_dir: where endpoints are; the agent's own choice if None.
        environ: the agent's environment; this process's if None.
        deadline_seconds: how long registration may take.

    Raises:
        UsageError: if there is no such endpoint, or it runs already.
        EndpointError: if the agent ends, with its own words, or is not registered in time; nothing is left then.
        LoginError: if the agent has no login.
        VersionError: if the agent is not installed beside this Python.
        NotSupportedError: if this is not Linux.
    """
    require_linux()
    directory = _directory(name, user_dir)
    found = status(name, user_dir)
    if found.state is State.RUNNING:
        raise UsageError(
            f"The endpoint {name} runs already (process {found.pid}).",
            f"`appfl-gc endpoint stop {name}` stops it.",
        )
    if found.state is State.ELSEWHERE:
        raise UsageError(
            f"The endpoint {name} runs on {found.host or 'another machine'}, which shares this file system.",
            f"Stop it there. If that machine has just restarted, remove {directory / PID} first.",
        )
    if found.state is State.LEFTOVERS:
        stop(name, user_dir)
    (directory / PID).unlink(missing_ok=True)
    program, before = _program(), stamp(directory / IDENTIFIER)
    with contextlib.suppress(OSError, sqlite3.Error):  # the agent itself tells what is wrong there
        make_token_file(directory.parent)
    with (directory / OUTPUT).open("wb") as output:
        process = subprocess.Popen(
            [str(program), "start", name],
            env=_environment(directory, os.environ if environ is None else environ),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (directory / HOST).write_text(json.dumps({"host": os.uname().nodename, "pid": process.pid}))
    try:
        _await_registration(directory, process, before, deadline_seconds)
    except BaseException:
        processes.end(_all(directory, process.pid))
        process.wait()
        (directory / PID).unlink(missing_ok=True)
        raise
    return status(name, user_dir)


def stop(name: str, user_dir: Path | None = None, *, patience: float = 25.0) -> tuple[int, ...]:
    """Stop an endpoint's agent, its user endpoints and what they left; the ids of the processes ended.

    Args:
        name: the endpoint.
        user_dir: where endpoints are; the agent's own choice if None.
        patience: seconds that the agent has to stop its user endpoints, which cancel their batch jobs.

    Raises:
        UsageError: if there is no such endpoint, or it runs on another machine.
    """
    directory = _directory(name, user_dir)
    found = status(name, user_dir)
    if found.state is State.ELSEWHERE:
        raise UsageError(
            f"The endpoint {name} runs on {found.host or 'another machine'}, which shares this file system.",
            f"Run `appfl-gc endpoint stop {name}` there.",
        )
    everything = _all(directory, found.pid)
    agent = [process for process in everything if process.pid == found.pid]
    for process in agent:
        process.terminate()
    processes.wait(agent, patience)
    # Its user endpoints may have started more in the meantime, and a killed one leaves its interchange.
    left = {process.pid: process for process in [*everything, *processes.processes_of(directory)]}
    # User endpoints lead their sessions and cancel their jobs; the rest has nothing to tidy up.
    processes.end([process for process in left.values() if processes.leads(process)])
    processes.end([process for process in left.values() if processes.running(process)], WORKER_PATIENCE)
    late = {process.pid: process for process in processes.processes_of(directory)}  # forked meanwhile
    processes.end([process for process in late.values() if processes.running(process)])
    left |= late
    (directory / PID).unlink(missing_ok=True)
    (directory / HOST).unlink(missing_ok=True)
    return tuple(sorted(left))


def status(name: str, user_dir: Path | None = None) -> AgentStatus:
    """How an endpoint's agent is, as far as this machine can tell; raises ``UsageError`` if there is none."""
    directory = _directory(name, user_dir)
    recorded = read_json(directory / HOST)
    host = recorded.get("host")
    here = [process for process in processes.processes_of(directory) if processes.running(process)]
    pid = read_pid(directory / PID)
    running = pid is not None and (pid in {process.pid for process in here} or _is_agent(pid))
    if running:
        state = State.RUNNING
    elif host != os.uname().nodename and _touched_lately(directory / PID):
        state = State.ELSEWHERE
    else:
        state = State.LEFTOVERS if here else State.STOPPED
    identifier = read_json(directory / IDENTIFIER).get("endpoint_id")
    return AgentStatus(
        name=name,
        directory=directory,
        state=state,
        endpoint_id=identifier if isinstance(identifier, str) else None,
        pid=pid if running else None,
        host=host if isinstance(host, str) else None,
        processes=tuple(sorted(process.pid for process in here)),
    )


def list_endpoints(user_dir: Path | None = None) -> list[AgentStatus]:
    """Every endpoint that was configured here, by name; user endpoints are left out."""
    root = user_dir or user_directory()
    names = sorted(path.parent.name for path in root.glob(f"*/{CONFIG}"))
    return [status(name, root) for name in names if not name.startswith(("uep.", "."))]


def require_linux(system: str = sys.platform) -> None:
    """Raise ``NotSupportedError`` with what to do where the agent can't run."""
    if not system.startswith("linux"):
        raise NotSupportedError(
            "The Globus Compute agent runs on Linux only.",
            "Run the endpoint on a Linux machine, in a Linux container or in WSL 2; this machine can still be "
            "the server of a run, and `endpoint_id: local` trains here without an agent.",
        )


def _directory(name: str, user_dir: Path | None) -> Path:
    check_name(name)
    directory = ((user_dir or user_directory()) / name).expanduser().absolute()
    if not directory.is_dir():
        raise UsageError(
            f"There is no endpoint {name} in {directory.parent}.",
            f"`appfl-gc endpoint list` shows those there are, `appfl-gc endpoint configure {name}` makes one.",
        )
    return directory


def _program() -> Path:
    program = binaries() / PROGRAM
    if not program.is_file():
        raise VersionError(
            f"{PROGRAM} is not installed beside {sys.executable}.",
            "Install it into this environment: `pip install globus-compute-endpoint`.",
        )
    return program


def _environment(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    path = [str(binaries()), environ.get("PATH", os.defpath)]
    return {
        **environ,
        "PATH": os.pathsep.join(path),
        USER_DIRECTORY: str(directory.parent),
        MARKER: str(directory),
        KEEP_ENVIRONMENT: "1",
    }


def _await_registration(
    directory: Path, process: subprocess.Popen[bytes], before: int | None, seconds: float
) -> None:
    """Return when the agent has written the UUID that it was registered with."""
    ends = time.monotonic() + seconds
    while read_pid(directory / PID) != process.pid or stamp(directory / IDENTIFIER) in (None, before):
        if process.poll() is not None:
            if asked_for_login(directory / OUTPUT):
                raise LoginError(
                    f"The agent of the endpoint {directory.name} has no login, and nobody to ask for one.",
                    "`appfl-gc login` on this machine, or set GLOBUS_COMPUTE_CLIENT_ID and "
                    "GLOBUS_COMPUTE_CLIENT_SECRET, then start it again.",
                )
            raise EndpointError(
                f"The agent of the endpoint {directory.name} ended with status {process.returncode}:\n"
                f"{last_words(directory / OUTPUT)}",
                f"Its log is {directory / LOG}; `appfl-gc endpoint check {directory.name}` looks at its files.",
            )
        if time.monotonic() > ends:
            raise EndpointError(
                f"The agent of the endpoint {directory.name} was not registered within {seconds:g} seconds; "
                f"it has been stopped.\n{last_words(directory / OUTPUT)}",
                f"Its log is {directory / LOG}. Is the service reachable from here?",
            )
        time.sleep(_POLL)


def _all(directory: Path, agent: int | None) -> list[psutil.Process]:
    found = {process.pid: process for process in processes.processes_of(directory)}
    if agent is not None and psutil.pid_exists(agent):
        try:
            process = psutil.Process(agent)
            family = [process, *process.children(recursive=True)]
        except psutil.Error:
            family = []
        found |= {process.pid: process for process in family}
    return list(found.values())


def _touched_lately(path: Path) -> bool:
    # A running agent touches its pid file every 15 s; the rest is for clocks that differ.
    touched = stamp(path)
    return touched is not None and time.time() - touched / 1e9 < STALE_SECONDS


def _is_agent(pid: int) -> bool:
    # An agent that was started by hand has no marker; a process id may have gone to another program.
    try:
        title = " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return False
    return "Globus Compute Endpoint" in title or PROGRAM in title
