"""Workers that are forked instead of spawned, so that a test can afford hundreds of servers.

A server is forked from a process that has imported everything and used nothing; before it does anything else it forks
its cradle, from which its workers are forked in turn: a process that is forked after torch was used may hang.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
import uuid
from multiprocessing.connection import Connection

from globus_compute_endpoint.engines.helper import execute_task

from appfl_gc.control.local.engine import EngineSettings
from appfl_gc.control.local.worker import prepare_worker
from appfl_gc.control.message import RESULT_SERIALIZERS
from appfl_gc.protocol.errors import DeliveryError
from appfl_gc.sandbox.children import PR_SET_PDEATHSIG


def die_with(parent: int) -> None:
    """This process is killed when ``parent``, which forked it, ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Cradle:
    """Forks workers for one server. Make it before that server does anything."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._lock = threading.Lock()
        server = os.getpid()
        if os.fork() == 0:
            self._socket.close()
            die_with(server)
            with contextlib.suppress(OSError):
                _fork_workers(theirs)
            os._exit(0)
        theirs.close()

    def worker(self) -> tuple[int, Connection]:
        """A new worker: its process id, and what it takes packed tasks from and writes packed results to."""
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            socket.send_fds(self._socket, [b"w"], [theirs.fileno()])
            pid = int.from_bytes(self._socket.recv(8), "little")
        return pid, Connection(ours.detach())


def _fork_workers(asked: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    cradle = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, 1, 1)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            asked.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with(cradle)
            _work(Connection(descriptors[0]))
            os._exit(0)
        os.close(descriptors[0])
        asked.sendall(pid.to_bytes(8, "little"))


def _work(tasks: Connection) -> None:
    """What a worker of the engine does: one packed task after the other."""
    with contextlib.suppress(EOFError, OSError):
        log, site_state, directory = tasks.recv()
        prepare_worker(log, site_state)
        while True:
            task_id, packed = tasks.recv()
            tasks.send_bytes(
                execute_task(
                    packed,
                    task_id,
                    uuid.UUID(int=0),
                    run_dir=directory,
                    result_serializers=RESULT_SERIALIZERS,
                )
            )


class ForkedEngine:
    """Stands where ``LocalEngine`` stands: one worker, which runs what a worker of the engine runs."""

    def __init__(self, cradle: Cradle, settings: EngineSettings) -> None:
        settings.directory.mkdir(parents=True, exist_ok=True)
        self._pid, self._tasks = cradle.worker()
        working = settings.directory / "tasks_working_dir"
        self._tasks.send((str(settings.log), str(settings.site_state), str(working)))

    def run(self, task_id: uuid.UUID, packed: bytes) -> bytes:
        """Run one packed task and wait for its packed result."""
        try:
            self._tasks.send((task_id, packed))
            return self._tasks.recv_bytes()
        except (OSError, EOFError) as error:
            raise DeliveryError(f"The worker has ended: {error!r}.") from None

    def kill(self) -> None:
        """End the worker at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
