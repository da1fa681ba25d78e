"""Find out whether a peer lives while a transfer from it shows no progress.

An endpoint answers one peer's requests in order. So an answer to a later, small question means that the earlier
transfer was answered too, or lost; and a refusal means that the peer, or the way to it, is gone. A peer that is busy
with others answers neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from appfl_gc.payload.retry import PassingError
from appfl_gc.protocol.errors import TransferError

AFTER = 20.0
GRACE = 10.0


class Probe:
    """Called again and again during a wait; raises once it is known to be in vain.

    Args:
        ask: a small question to the peer, with a deadline of its own. ``TransferError`` says that it can't be
            reached; False that there was no answer in time, which says nothing.
        lost: the error when the question was answered and the transfer is not.
        after: seconds of waiting until it asks.
        grace: seconds that a transfer may lag behind the answer to the later question.
    """

    def __init__(
        self,
        ask: Callable[[], bool],
        lost: Callable[[], PassingError],
        *,
        after: float = AFTER,
        grace: float = GRACE,
    ) -> None:
        self._ask = ask
        self._lost = lost
        self._after = after
        self._grace = grace
        self._due = time.monotonic() + after
        self._lost_at: float | None = None
        self._trouble: TransferError | None = None
        self._thread: threading.Thread | None = None

    def __call__(self) -> None:
        """Raise ``TransferError`` if waiting on is in vain."""
        now = time.monotonic()
        if self._trouble is not None:
            raise self._trouble
        if self._lost_at is not None:
            if now > self._lost_at:
                raise self._lost()
        elif now > self._due and (self._thread is None or not self._thread.is_alive()):
            self._due = now + self._after
            self._thread = threading.Thread(target=self._run, name="proxystore-probe", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            if self._ask():
                self._lost_at = time.monotonic() + self._grace
        except TransferError as error:
            self._trouble = error
