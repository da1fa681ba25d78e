"""Threads that do the tasks of one transfer, watched by the caller, who never waits for a silent store."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, Protocol, TypeVar

import requests

from appfl_gc.payload.cores import available_cores
from appfl_gc.payload.retry import Patience, check, retry
from appfl_gc.protocol.errors import TransferError

_FEW, _MANY = 4, 8
_LARGE = 512 << 20
TICK = 0.2
"""Seconds within which a caller sees that it is to stop."""


def threads_for(size: int) -> int:
    """How many requests at once move ``size`` bytes: a store gives each connection a part of its speed only."""
    return _FEW if size < _LARGE else max(_FEW, min(_MANY, available_cores()))


class Task(Protocol):
    """Something to do.

    Attributes:
        expires: monotonic seconds when the present try has taken too long.
    """

    expires: float


Some = TypeVar("Some", bound=Task)


class Crew(Generic[Some]):
    """Does tasks in the order in which they come. A context manager; after it, no task begins or goes on.

    What ``work`` raises as ``PassingError`` is tried again; any other error ends everything and is raised to the
    caller by whichever method it calls next.

    Args:
        work: one try at a task with its thread's session. It calls ``halted`` before each step.
        threads: how many at once.
        what: begins sentences about the transfer.
        stop: ends it.
        watch: called on the caller's thread whenever there may be news, five times a second at least.
        patience: with each task; None for the default.
    """

    def __init__(
        self,
        work: Callable[[requests.Session, Some], None],
        threads: int,
        what: str,
        stop: threading.Event,
        watch: Callable[[], None],
        patience: Patience | None = None,
    ) -> None:
        self._work = work
        self._most = threads
        self._what = what
        self._stop = stop
        self._watch = watch
        self._patience = patience
        self._halt = threading.Event()
        self._news = threading.Condition()
        self._waiting: deque[Some] = deque()
        self._busy: list[Some] = []
        self._failure: Exception | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Crew[Some]:
        return self

    def __exit__(self, *error: object) -> None:
        with self._news:
            self._halt.set()
            self._news.notify_all()
        # One that waits for a silent store ends at its deadline, and touches nothing any more.
        for thread in self._threads:
            thread.join(TICK / len(self._threads))

    def give(self, tasks: Iterable[Some]) -> None:
        """Hand over tasks; takes the next one when fewer wait than threads are free, and one more.

        Raises:
            TransferError: what ended the work, or that it was interrupted.
        """
        for task in tasks:
            self._look()
            with self._news:
                self._waiting.append(task)
                self._news.notify_all()
            if len(self._threads) < self._most:
                thread = threading.Thread(target=self._serve, name="appfl-gc-s3", daemon=True)
                self._threads.append(thread)
                thread.start()
            while len(self._waiting) > max(0, self._most - len(self._busy)):
                self._wait()

    def finish(self) -> None:
        """Wait until all tasks are done; raises as ``give``."""
        while self._waiting or self._busy:
            self._wait()
        self._look()

    def tell(self) -> None:
        """From a task: something went on; wakes the caller."""
        with self._news:
            self._news.notify_all()

    def halted(self) -> None:
        """From a task: raise ``TransferError`` if it is not to go on."""
        check(self._halt, self._what)

    def _wait(self) -> None:
        with self._news:
            if (self._waiting or self._busy) and self._failure is None:
                self._news.wait(TICK)
        self._look()

    def _look(self) -> None:
        if self._failure is not None:
            raise self._failure
        check(self._stop, self._what)
        now = time.monotonic()
        if any(task.expires < now for task in tuple(self._busy)):
            raise TransferError(f"{self._what} was given up: the connection to the store is too slow.")
        self._watch()

    def _serve(self) -> None:
        with requests.Session() as session:
            while (task := self._next()) is not None:
                try:
                    retry(partial(self._work, session, task), self._what, self._halt, self._patience)
                except Exception as error:  # noqa: BLE001 - raised again by the caller
                    self._failure = self._failure or error
                with self._news:
                    self._busy.remove(task)
                    self._news.notify_all()

    def _next(self) -> Some | None:
        with self._news:
            while not self._halt.is_set():
                if self._waiting and self._failure is None:
                    self._busy.append(self._waiting.popleft())
                    self._news.notify_all()
                    return self._busy[-1]
                self._news.wait()
        return None
