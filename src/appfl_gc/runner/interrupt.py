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
    """Turn the first SIGINT or SIGTERM into an item of ``inbox``; a second one raises ``KeyboardInterrupt``.

    Outside the main thread Python allows no signal handlers, and nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    seen = False

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True
        inbox.put(Interrupted(signal.Signals(number).name))

    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
