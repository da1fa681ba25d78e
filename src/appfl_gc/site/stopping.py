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

    def reason(self) -> StopReason | None:
        """Why the task is to stop after the step that was just taken; None to go on."""


class NeverStop:
    """Goes on to the last step."""

    def reason(self) -> StopReason | None:
        """See ``StopSignal``; always None."""
        return None
