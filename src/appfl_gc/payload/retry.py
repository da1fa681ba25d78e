"""Trying again: what may pass is repeated after growing, random pauses that a stop event ends at once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from appfl_gc.protocol.errors import TransferError

Result = TypeVar("Result")


class PassingError(TransferError):
    """Trouble that may be over at the next try, such as a lost connection.

    Args:
        message: a sentence: what happened, and where.
        hint: what the user can do if it lasts.
        after: seconds that the other side asks to wait, or None.
        progressed: whether this try brought a fair part of the work further; tries are then counted anew.
    """

    def __init__(
        self, message: str, hint: str = "", *, after: float | None = None, progressed: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.after = after
        self.progressed = progressed


@dataclass(frozen=True)
class Patience:
    """How often and how long to try.

    Attributes:
        tries: tries in a row without progress, at least 1.
        first: seconds of the first pause at most; each later one may take twice as long.
        longest: seconds that a pause takes at most, also when the other side asks for more.
    """

    tries: int = 7
    first: float = 0.5
    longest: float = 30.0

    def pause(self, failed: int, asked: float | None, chance: float) -> float:
        """Seconds to wait after ``failed`` tries in a row.

        Between a half and all of the exponential step, by ``chance`` (0 to 1), so that many who failed together do
        not return together (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). Never less
        than ``asked``, as far as ``longest`` allows.
        """
        step = min(self.first * 2.0 ** min(failed - 1, 30), self.longest)
        return min(max(step * (1 + chance) / 2, asked or 0.0), self.longest)


def retry(
    work: Callable[[], Result],
    what: str,
    stop: threading.Event,
    patience: Patience | None = None,
) -> Result:
    """The result of ``work``, called again as long as it raises ``PassingError`` and patience lasts.

    Args:
        work: one try. Whatever else it raises passes through at once.
        what: begins the sentences about it, such as "The upload of a model".
        stop: once set, nothing is tried again and pauses end.
        patience: None for the default one.

    Raises:
        TransferError: the last try's sentence with the number of tries, or that it was interrupted.
    """
    patience = patience or Patience()
    # Not the module's generator: users seed that one and count on its numbers.
    chance = random.SystemRandom()
    failed = 0
    while True:
        check(stop, what)
        try:
            return work()
        except PassingError as error:
            failed = 1 if error.progressed else failed + 1
            check(stop, what)
            if failed >= patience.tries:
                times = f" It was tried {failed} times." if failed > 1 else ""
                raise TransferError(f"{error.message}{times}", error.hint) from None
            wait(patience.pause(failed, error.after, chance.random()), what, stop)


def wait(seconds: float, what: str, stop: threading.Event) -> None:
    """Sleep; raises ``TransferError`` at once when ``stop`` is set."""
    if stop.wait(seconds):
        raise interrupted(what)


def check(stop: threading.Event, what: str) -> None:
    """Raise ``TransferError`` if ``stop`` is set."""
    if stop.is_set():
        raise interrupted(what)


def interrupted(what: str) -> TransferError:
    """The error of a transfer that ended because it was asked to."""
    return TransferError(f"{what} was interrupted.")
