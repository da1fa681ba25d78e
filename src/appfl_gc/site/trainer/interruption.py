"""The keys of ``train_configs`` that say what becomes of a task that is interrupted."""

from __future__ import annotations

from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.trainer.reader import ConfigReader

CHECKPOINT_SECONDS = 600.0


@dataclass(frozen=True)
class Interruption:
    """What becomes of a task that is interrupted.

    Attributes:
        keeps_part: at the end of the job the update is sent as it is; if not, a later attempt goes on.
        checkpoint_steps: optimiser steps from one checkpoint to the next; None for no such limit.
        checkpoint_seconds: seconds from one checkpoint to the next; None for no such limit.
    """

    keeps_part: bool = False
    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = CHECKPOINT_SECONDS

    @classmethod
    def read(cls, read: ConfigReader) -> Interruption:
        """The settings of a configuration; raises ``UserCodeError``."""
        on_walltime = read.text("on_walltime", "checkpoint")
        if on_walltime not in {"checkpoint", "partial"}:
            raise UserCodeError(
                f"{read.block}.on_walltime is {on_walltime!r}.", "It is checkpoint or partial."
            )
        seconds = read.number("checkpoint_seconds", CHECKPOINT_SECONDS, at_least=0.0)
        return cls(
            keeps_part=on_walltime == "partial",
            checkpoint_steps=_steps(read),
            checkpoint_seconds=seconds or None,
        )


def _steps(read: ConfigReader) -> int | None:
    wanted = read.configs.get("checkpoint_steps")
    return None if wanted is None else read.whole("checkpoint_steps", at_least=1)
