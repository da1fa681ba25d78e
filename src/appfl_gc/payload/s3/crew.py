"""Threads that do the tasks of one transfer, each over a connection of its own, watched by the caller."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from appfl_gc.payload.retry import Patience, interrupted, retry
from appfl_gc.payload.s3.connection import Connection, Deadlines

Task = TypeVar("Task")
TICK = 0.2
"""Seconds within which a caller sees that it is to stop."""


class Crew(Generic[Task]):
    """Does tasks in the order in which they come; a context manager whose end leaves no work behind.

    What ``work`` raises as ``PassingError`` is tried again; any other error ends everything and is raised to the
    caller by whichever method it calls next.

    Args:
        work: one try at a task.
        threads: how many at once.
        what: begins sentences about the transfer.
        stop: ends it.
        watch: called on the caller's thread whenever there may be news, five times a second at least.
        patience: with each task; None for the default.
        deadlines: of each request.
    """

    def __init__(
        self,
        work: Callable[[Connection, Task], None],
        threads: int,
        what: str,
        stop: threading.Event,
        watch: Callable[[], None],
        *,
        patience: Patience | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._work = work
        self._what = what
        self._stop = stop
        self._watch = watch
        self._patience = patience
        self._halt = threading.Event()
        self._news = threading.Condition()
        self._waiting: deque[Task] = deque()
        self._busy = 0
        self._most = threads
        self._ended = False
        self._failure: Exception | None = None
        self._connections = [Connection(deadlines or Deadlines()) for _ in range(threads)]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Crew[Task]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._halt.set()
        with self._news:
            self._ended = True
            self._waiting.clear()
            self._news.notify_all()
        for connection in self._connections:
            connection.end()
        for thread, connection in zip(self._threads, self._connections, strict=False):
            # One that still connects can't be hurried. It ends after that and touches nothing any more.
            while thread.is_alive() and not connection.connecting:
                thread.join(TICK / 4)

    def give(self, task: Task) -> None:
        """Hand over a task; waits while as many tasks wait as there are threads.

        Raises:
            TransferError: what ended the work, or that it was interrupted.
        """
        while True:
            with self._news:
                if len(self._waiting) < max(1, self._most - self._busy):
                    self._waiting.append(task)
                    self._news.notify_all()
                    break
                self._news.wait(TICK)
            self._look()
        if len(self._threads) < self._most:
            self._hire()
        self._look()

    def give_all(self, tasks: Iterable[Task]) -> None:
        """Hand over all tasks at once."""
        with self._news:
            self._waiting.extend(tasks)
            count = min(len(self._waiting), self._most)
        for _ in range(count):
            self._hire()

    def tell(self) -> None:
        """From a task: something went on; wakes the caller."""
        with self._news:
            self._news.notify_all()

    def finish(self) -> None:
        """Wait until all tasks are done; raises as ``give``."""
        while True:
            self._look()
            with self._news:
                if not self._waiting and self._busy == 0:
                    break
                if self._failure is None:
                    self._news.wait(TICK)
        self._look()

    def _look(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._stop.is_set():
            raise interrupted(self._what)
        now = time.monotonic()
        for connection in self._connections:
            connection.break_off(now)
        self._watch()

    def _hire(self) -> None:
        connection = self._connections[len(self._threads)]
        thread = threading.Thread(target=self._serve, args=(connection,), name="appfl-gc-s3", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            while (task := self._next()) is not None:
                retry(partial(self._work, connection, task), self._what, self._halt, self._patience)
                with self._news:
                    self._busy -= 1
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            with self._news:
                self._failure = self._failure or error
                self._news.notify_all()
        finally:
            connection.close()

    def _next(self) -> Task | None:
        with self._news:
            while not self._waiting and not self._ended:
                self._news.wait()
            if self._halt.is_set() or not self._waiting:
                return None
            self._busy += 1
            self._news.notify_all()
            return self._waiting.popleft()
