"""Which process is which, and how long it has run; as Linux tells in ``/proc``."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.protocol.wire import Json, as_int, as_object, as_text

_PROC = Path("/proc")
_MANAGER = b"process_worker_pool"
"""Parsl's program that starts a node's workers, and new ones where some died."""
_ENDED_STATES = "ZX"
"""Of a process that was killed, and whose parent has not heard of it yet."""


@dataclass(frozen=True)
class Process:
    """A process that another one can recognise.

    Attributes:
        host: where its number means something: host name, boot and namespace of process numbers; "" where the
            system does not tell.
        pid: its number.
        started: clock ticks from the host's boot to its start; numbers are used again.
    """

    host: str
    pid: int
    started: int

    @property
    def ended(self) -> bool | None:
        """Whether it runs no more; None where this process can't tell, as of one on another host."""
        if not self.host or self.host != _host():
            return None
        status = _status(self.pid)
        return status is None or status[0] in _ENDED_STATES or status[1] != self.started

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {"host": self.host, "pid": self.pid, "started": self.started}

    @classmethod
    def from_json(cls, value: Json) -> Process:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "The process")
        return cls(
            as_text(fields.get("host"), "The process's host", 1000),
            as_int(fields.get("pid"), "The process's number"),
            as_int(fields.get("started"), "The process's start"),
        )


def this_process() -> Process:
    """The process that asks."""
    status = _status(os.getpid())
    return Process("", os.getpid(), 0) if status is None else Process(_host(), os.getpid(), status[1])


def seconds_of_this_process() -> float | None:
    """How long the process that asks has run, in seconds; None where the system does not tell."""
    return _seconds_of(os.getpid())


def seconds_of_these_workers() -> float | None:
    """How long the node's worker manager has run, in seconds, where it is the parent of the process that asks.

    It starts with the job, and a worker that takes the place of one that died starts later. Other parents say nothing
    of a job: an agent and a login shell outlive many. Where there is no manager, or none that can be seen, it is how
    long this process has run; None where the system does not tell.
    """
    parent = os.getppid()
    try:
        command = (_PROC / str(parent) / "cmdline").read_bytes()
    except OSError:
        command = b""
    managed = _seconds_of(parent) if _MANAGER in command else None
    return seconds_of_this_process() if managed is None else managed


def _seconds_of(pid: int) -> float | None:
    status = _status(pid)
    if status is None:
        return None
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - status[1] / os.sysconf("SC_CLK_TCK"))


def _host() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return ""


def _status(pid: int) -> tuple[str, int] | None:
    """State and start of a process; None if there is none of that number."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    # The second field is the program's name in brackets, which may hold anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])
