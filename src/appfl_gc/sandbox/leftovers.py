"""Which processes belong to a sandbox's endpoints, also those whose parents were killed."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from appfl_gc.sandbox.files import TOKENS

PROGRAMS = ("globus-compute-endpoint", "globus_compute_endpoint", "interchange.py", "process_worker_pool")
COMMAND_MARKER = "APPFL_GC_SANDBOX_COMMAND"
"""In the environment of a command that a sandbox was started for, and of all that it starts: the sandbox's root."""
END_SECONDS = 12.0
"""An agent takes up to 10 s to end its user endpoints and their jobs."""


def endpoint_processes(directory: Path, spare: Collection[int] = ()) -> list[psutil.Process]:
    """Agents, user endpoints, managers and workers of the sandbox in ``directory``, and what its command left.

    One belongs to it when it writes a file there or was started for it: parents and command lines would miss orphans,
    and processes that have changed their titles. Children of one belong to it too. This process, its ancestors, and
    those in ``spare`` with their children never do.
    """
    me = psutil.Process()
    never = {me.pid, *(one.pid for one in me.parents()), *spare}
    never |= {child.pid for pid in spare for child in _children(pid)}
    root = f"{directory.resolve()}{os.sep}"
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid not in never and (_writes(process.pid, root) or _started_for(process, root)):
            found |= {one.pid: one for one in (process, *_children(process.pid)) if one.pid not in never}
    return [one for one in found.values() if _runs(one)]


def end_endpoints(directory: Path, spare: Collection[int] = (), patience: float = END_SECONDS) -> None:
    """End every process of the endpoints in ``directory``: asked first, then killed, until there is none."""
    found = endpoint_processes(directory, spare)
    # An agent ends what it has started, and takes its full 10 s where that has ended by itself.
    pids = {process.pid for process in found}
    agents = [process for process in found if _parent(process) not in pids]
    _send(agents, kill=False)
    _wait(agents, patience)
    while remaining := endpoint_processes(directory, spare):
        _send(remaining, kill=True)
        _wait(remaining, 2)


def _send(processes: list[psutil.Process], kill: bool) -> None:
    for process in processes:
        try:
            process.kill() if kill else process.terminate()
        except psutil.Error:
            continue


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _wait(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_runs(one) for one in processes):
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:  # one that has ended stays as a zombie until its parent asks, which may be never
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _writes(pid: int, root: str) -> bool:
    return any(
        target.startswith(root)
        and not Path(target).name.startswith(TOKENS)  # the user's SDK has them open too
        for target in _written_files(Path("/proc") / str(pid))
    )


def _written_files(process: Path) -> Iterator[str]:
    try:
        for link in (process / "fd").iterdir():
            info = (process / "fdinfo" / link.name).read_text()
            flags = int(info.split("flags:")[1].split()[0], 8)
            if flags & os.O_ACCMODE != os.O_RDONLY:
                yield str(link.readlink())
    except (OSError, IndexError, ValueError):  # it has ended, or is somebody else's
        return


def _started_for(process: psutil.Process, root: str) -> bool:
    try:
        environment = process.environ()
        if environment.get(COMMAND_MARKER) == root.rstrip(os.sep):
            return True
        # A shell that has the sandbox's environment is the user's.
        agent = any(program in part for part in process.cmdline() for program in PROGRAMS)
        return agent and environment.get("GLOBUS_COMPUTE_USER_DIR", "").startswith(root)
    except psutil.Error:
        return False


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
