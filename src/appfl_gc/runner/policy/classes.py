"""How the policy treats each class of failure."""

from __future__ import annotations

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.policy.settings import PolicySettings

LONGEST_PAUSE = 600.0
"""Seconds between two attempts, at most."""
QUEUE_PAUSE = 60.0
"""Seconds before the first retry where a batch system takes no more jobs: one of them has to end."""

UNHEARD = frozenset(
    {ErrorClass.LATE, ErrorClass.SERVICE, ErrorClass.FORGOTTEN, ErrorClass.LOGIN, ErrorClass.ENDPOINT}
)
"""Classes after which the site may still be at work: nothing was heard from it."""


def pause_before_retry(settings: PolicySettings, error_class: ErrorClass, failures: int) -> float:
    """Seconds before a call is tried again after the ``failures``-th failure in a row (from 1).

    The first retry goes out at once: a lost worker is replaced, a payload is moved again.
    """
    doublings = min(failures, 30)  # more would change nothing
    if error_class is ErrorClass.QUEUE_LIMIT:
        return min(LONGEST_PAUSE, QUEUE_PAUSE * 2.0 ** (doublings - 1))
    return 0.0 if failures == 1 else min(LONGEST_PAUSE, settings.retry_seconds * 2.0 ** (doublings - 2))
