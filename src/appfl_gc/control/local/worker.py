"""What a local worker process does before its first call."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
from multiprocessing import connection, parent_process
from pathlib import Path

from appfl_gc.site.paths import SITE_STATE

PR_SET_PDEATHSIG = 1


def prepare_worker(log: str, site_state: str) -> None:
    """Initialise a spawned worker.

    It ignores Ctrl-C (the runner decides), dies with the runner, writes what user code prints past Python to
    ``log`` instead of the terminal, and keeps the site's state in ``site_state``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    os.environ[SITE_STATE] = site_state
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable()
    logging.getLogger().setLevel(logging.INFO)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is None:
        return
    if sys.platform == "linux":
        # The kernel's signal reaches a worker that holds the interpreter lock in C code.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:
        os._exit(1)

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
