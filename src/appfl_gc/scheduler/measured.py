"""What a scheduler learns from the measures of an update. Part of them a site chose, so none is taken on trust."""

from __future__ import annotations

from appfl_gc.protocol.schedule import UpdateMeta

SHORTEST, LONGEST = 1e-9, 366 * 86400.0
"""Seconds, up to a year. What is said to be shorter or longer counts as this."""


def seconds_per_step(meta: UpdateMeta) -> float | None:
    """Seconds of training for each local step; None if the update does not tell."""
    if meta.steps < 1 or meta.timing.train <= 0:
        return None
    return min(max(meta.timing.train / meta.steps, SHORTEST), LONGEST)


def moving_average(known: float, measured: float, weight: float) -> float:
    """``known`` with ``measured`` averaged in at ``weight`` (exponential moving average); at most ``LONGEST``."""
    return (1 - weight) * known + weight * min(measured, LONGEST)
