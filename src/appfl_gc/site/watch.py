"""Whether a call's work is still to go on: its job may end, and its server may wait no more."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appfl_gc.payload.mailbox.base import SiteMailbox, TaskProgress
from appfl_gc.payload.mailbox.making import mailbox_from_grant
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import CancelledError, ErrorReport, WalltimeError
from appfl_gc.protocol.wire import as_object, as_seconds
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.walltime import must_be_asked, seconds_left

LOOK_SECONDS = "APPFL_GC_SITE_LOOK_SECONDS"
_LOOK = 5.0
_LAST_LOOK = 1.0
"""Seconds that a call which is answered gives to a look that is under way."""


@dataclass(frozen=True)
class JobEnd:
    """The end of the job that the worker runs in.

    Attributes:
        left: seconds until then, or None; see ``walltime.seconds_left``.
        slow: whether asking takes seconds, so that a short task is not to wait for it. Such an end is asked for again:
            a busy batch system gives no answer at times, and people give their jobs more time.
        margin: tasks stop so many seconds before it.
        again: seconds between two questions, at least.
    """

    left: Callable[[], float | None] = seconds_left
    slow: bool = False
    margin: float = 60.0
    again: float = 120.0


class Watch:
    """A ``StopSignal`` for one call; a context manager, whose thread ends with it.

    It looks when the block begins, so that a call that nobody waits for any more begins no work, and then from time
    to time. Every second look tells the server how far the task is.

    Args:
        mailbox: of the call; None: nobody can say that it is not wanted any more.
        end: of the worker's job; None: it has none.
        look: seconds between two looks.
    """

    def __init__(
        self, mailbox: SiteMailbox | None = None, end: JobEnd | None = None, look: float = _LOOK
    ) -> None:
        self._mailbox = mailbox
        self._end = end
        self._look = look
        self._over = threading.Event()
        self._unwanted = False
        self._stop_at: float | None = None
        self._ask_at = time.monotonic()
        self._progress: TaskProgress | None = None
        self._thread: threading.Thread | None = None

    def reason(self) -> StopReason | None:
        """See ``StopSignal``."""
        if self._unwanted:
            return StopReason.CANCELLED
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            return StopReason.WALLTIME
        return None

    def reached(self, steps: int, planned: int) -> None:
        """Hear how far the task is: ``steps`` of ``planned`` (0: not known)."""
        self._progress = TaskProgress(steps, planned)

    def __enter__(self) -> Watch:
        self._unwanted = self._mailbox is not None and not self._mailbox.wanted()
        if self._end is not None and not self._end.slow:
            self._learn_the_end(self._end)
        if self._mailbox is not None or (self._end is not None and self._end.slow):
            self._thread = threading.Thread(target=self._watch, name="appfl-gc-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread is not None:
            # Nothing is told of a call that was answered, but for what is on its way to a silent store.
            self._thread.join(_LAST_LOOK)
        elif self._mailbox is not None:
            self._mailbox.close()

    def _watch(self) -> None:
        with contextlib.closing(self._mailbox) if self._mailbox is not None else contextlib.nullcontext():
            self._look_on()

    def _look_on(self) -> None:
        told, turn = self._progress, 0
        while not self._over.wait(self._look):
            turn += 1
            if self._end is not None and self._end.slow and time.monotonic() >= self._ask_at:
                self._learn_the_end(self._end)
            if self._mailbox is None:
                continue
            if not self._mailbox.wanted():
                self._unwanted = True
                return
            progress = self._progress
            if turn % 2 == 0 and progress is not None and progress != told and not self._over.is_set():
                self._mailbox.tell(progress)
                told = progress

    def _learn_the_end(self, end: JobEnd) -> None:
        left, now = end.left(), time.monotonic()
        if left is not None:
            self._stop_at = now + left - end.margin
        # Half of the time later: a few questions in all, and the last one shortly before the task would stop.
        self._ask_at = now + max(end.again, 0.0 if left is None else (left - end.margin) / 2)


def watch_over(call: Call, environ: Mapping[str, str] = os.environ) -> Watch:
    """The watch over ``call``, as its mailbox, its configuration and this worker's environment say.

    Raises:
        WireError: if the call's mailbox or configuration is malformed.
    """
    granted = call.args.get("mailbox")
    mailbox = None if granted is None else mailbox_from_grant(as_object(granted, "The mailbox"))
    config = as_object(call.args.get("config", {}), "The configuration")
    train = as_object(config.get("train_configs", {}), "The training configuration")
    length, margin = train.get("walltime_seconds"), train.get("walltime_margin_seconds", JobEnd.margin)
    configured = None if length is None else as_seconds(length, "walltime_seconds")
    end = JobEnd(
        lambda: seconds_left(configured, environ),
        must_be_asked(environ),
        as_seconds(margin, "walltime_margin_seconds"),
    )
    look = environ.get(LOOK_SECONDS, "")
    return Watch(mailbox, end, float(look) if re.fullmatch(r"\d+(\.\d+)?", look) else _LOOK)


def stopped(reason: StopReason) -> ErrorReport:
    """What the server hears of a call that has no update because it was stopped."""
    if reason is StopReason.CANCELLED:
        return CancelledError(
            "The task was stopped at the site: the server does not wait for it any more."
        ).report
    return WalltimeError(
        "The task was stopped at the site because the job that its worker runs in is about to end.",
        "It goes on from its checkpoint when it is sent again. Ask for a longer walltime, or set "
        "train_configs.on_walltime: partial, if tasks never come to their end.",
    ).report
