"""Ctrl-C: once ends the run with everything saved, twice stops it now."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from appfl_gc.runner.inbox import Inbox, Interrupted


@contextlib.contextmanager
def interrupts_go_to(inbox: Inbox) -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into items of ``inbox``; a second SIGINT raises ``KeyboardInterrupt``.

    A second SIGTERM does not: batch systems and ``timeout`` send it to the process and to its group.

    Outside the main thread Python allows no signal handlers, and nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    seen = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt
        if seen:
            return
        seen = True
        inbox.put(Interrupted(signal.Signals(number).name))

    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
