"""The failure policy: what a failed call means for its client and for the run. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from fractions import Fraction

from appfl_gc.protocol.errors import ErrorClass


class Verdict(enum.Enum):
    """What happens next."""

    RETRY = "retry"
    SET_ASIDE = "set aside"
    END_RUN = "end the run"


class FailurePolicy:
    """Retries infrastructure failures, sets clients aside for others, and ends a run that has too few.

    Args:
        clients: all clients of the run.
        retries: how often a call is tried again after an infrastructure failure.
        quorum: clients that must remain: a number, or a fraction of all (rounded up, at least one).
    """

    def __init__(self, clients: Sequence[str], retries: int, quorum: int | float) -> None:
        self._retries = retries
        self._active = set(clients)
        # As the user wrote the fraction: 0.07 of 100 clients are 7, and not 8.
        needed = quorum if isinstance(quorum, int) else math.ceil(Fraction(str(quorum)) * len(clients))
        self.needed = min(len(clients), max(1, needed))

    @property
    def active(self) -> frozenset[str]:
        """The clients that take part."""
        return frozenset(self._active)

    def failed(self, client: str, error_class: ErrorClass, attempt: int, before_training: bool) -> Verdict:
        """Judge the failure of attempt number ``attempt`` (from 1) of a call of ``client``.

        Before training nothing is lost by ending the run, so what would fail again ends it there.
        """
        if error_class.infrastructure and attempt <= self._retries:
            return Verdict.RETRY
        self._active.discard(client)
        if before_training and not error_class.infrastructure:
            return Verdict.END_RUN
        return Verdict.SET_ASIDE if len(self._active) >= self.needed else Verdict.END_RUN
