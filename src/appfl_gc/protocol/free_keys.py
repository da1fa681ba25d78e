"""Keys of ``train_configs`` that say how a task is stopped, kept and logged, and nothing about what it computes.

A run goes on when they have changed, and so does a task: another value of one of them is the same request.
"""

from __future__ import annotations

FREE_KEYS = (
    "checkpoint_steps",
    "checkpoint_seconds",
    "on_walltime",
    "walltime_seconds",
    "walltime_margin_seconds",
)
LOGGING = "logging_"
"""What the names of further ones begin with."""


def is_free(key: str) -> bool:
    """Whether a task's result does not depend on ``key``."""
    return key in FREE_KEYS or key.startswith(LOGGING)
