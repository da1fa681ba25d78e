"""One command in a sandbox's environment: its signals, its exit status, and what it leaves running."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from appfl_gc.protocol.errors import UsageError
from appfl_gc.sandbox.leftovers import COMMAND_MARKER
from appfl_gc.sandbox.sandbox import Sandbox

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 20.0


class _Ended(BaseException):
    """A signal asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def end_politely() -> Iterator[None]:
    """Within it SIGTERM and SIGHUP (unless it is ignored, as by nohup) unwind; the exit status says which."""

    def end(number: int, _frame: FrameType | None) -> None:
        _ignore_signals()
        raise _Ended(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS[1:]:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    except _Ended as ended:
        raise SystemExit(128 + ended.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_command(command: Sequence[str], sandbox: Sandbox) -> int:
    """Run it to its end and return its exit status, 128 and the signal's number if a signal ended it.

    Ctrl-C goes to the command, which is in the terminal's foreground as this process is; this one waits for it. When
    this process is asked to end, or its parent has gone, the command is asked too, then killed.

    Raises:
        UsageError: if the command can't be started.
    """
    environment = {**os.environ, **sandbox.environment, COMMAND_MARKER: str(sandbox.files.root)}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise UsageError(
            f"The command {command[0]} can't be started: {error.strerror}.", "Is it on PATH?"
        ) from None
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        status = _wait(process)
    except BaseException:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        _ignore_signals()  # from here on there is only cleaning up, which must not be cut short
    return status if status >= 0 else 128 - status


def _wait(process: subprocess.Popen[bytes]) -> int:
    parent = os.getppid()
    while True:
        try:
            return process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent and not _hangup_is_ignored():
                raise _Ended(signal.SIGHUP) from None


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _hangup_is_ignored() -> bool:
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
