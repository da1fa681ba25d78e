"""Why a task is to stop before its last step."""

from __future__ import annotations

import enum
from typing import Protocol


class StopReason(str, enum.Enum):
    """Why."""

    WALLTIME = "walltime"
    """The job that runs the worker is about to end."""
    CANCELLED = "cancelled"
    """Nobody waits for the update any more."""


class StopSignal(Protocol):
    """Asked after every step, so the answer takes no time: what it needs is looked up on a thread of its own."""

    def reached(self, steps: int, planned: int) -> None:
        """Hears after every step, before ``reason`` is asked, how far the task is.

        Args:
            steps: done so far, with those of a checkpoint that the task went on from.
            planned: of so many; 0 where that is not known.
        """

    def reason(self) -> StopReason | None:
        """Why the task is to stop after the step that was just taken; None to go on."""


class NeverStop:
    """Goes on to the last step."""

    def reached(self, steps: int, planned: int) -> None:
        """See ``StopSignal``; of no effect."""

    def reason(self) -> StopReason | None:
        """See ``StopSignal``; always None."""
        return None
