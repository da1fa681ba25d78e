"""Find and end the processes of an endpoint on this machine, by their ids."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from appfl_gc.hpc.endpoint.worker_environment import MARKER

PATIENCE = 10.0
"""Seconds that processes have to end by themselves before they are killed."""


def processes_of(directory: Path) -> list[psutil.Process]:
    """This user's processes that the endpoint in ``directory`` started, the agent among them.

    A process counts if the endpoint's marker is in the environment that it was started with. Processes
    of other users can't be looked at and are left out; so are this process and those above it.
    """
    this = psutil.Process()
    own = {this.pid, *(parent.pid for parent in this.parents())}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in own and process.environ().get(MARKER) == str(directory):
                found.append(process)
    return found


def end(processes: list[psutil.Process], patience: float = PATIENCE) -> list[int]:
    """Ask each process to end, wait ``patience`` seconds, kill what is left; the ids of those killed."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = wait(processes, patience)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    wait(alive, patience)
    return [process.pid for process in alive]


def wait(
    processes: list[psutil.Process], seconds: float
) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """Wait until the processes have ended; those that have, and those that are there still."""
    gone, alive = psutil.wait_procs(processes, timeout=seconds)
    return list(gone), list(alive)


def running(process: psutil.Process) -> bool:
    """Whether a process is there and not only waits to be collected by the one that started it."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def leads(process: psutil.Process) -> bool:
    """Whether a process is there and leads a session of its own."""
    try:
        return running(process) and os.getsid(process.pid) == process.pid
    except OSError:
        return False
