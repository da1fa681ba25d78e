"""Child processes that die with their parent, and ports for them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> Callable[[], None]:
    """A ``preexec_fn``: the kernel kills the child when the thread that started it ends, however it ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return prepare


def start_child(
    command: Sequence[str], environment: Mapping[str, str], log: Path, directory: Path
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, output to ``log``, killed when the calling thread ends."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )


@dataclass(frozen=True)
class ReservedPort:
    """A port of ``host`` that the kernel gives to nobody else, whether something listens there or not.

    It can be listened on as usual, by any process that sets ``SO_REUSEADDR``, as servers do.
    """

    host: str
    _bound: socket.socket

    @property
    def number(self) -> int:
        """The port."""
        return int(self._bound.getsockname()[1])


def reserve_port(host: str) -> ReservedPort:
    """A port that is free now, and is kept until this process ends."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, 0))
    return ReservedPort(host, bound)
