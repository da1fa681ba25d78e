"""How much a client counts: alike, or by its training examples (``client_weights_mode``).

An update whose client did a part of its work only (``UpdateMeta.share``) counts by that part of what it would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from appfl_gc.aggregator.base import Cohort
from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.schedule import UpdateMeta

MODES = ("equal", "sample_size")
MOST_EXAMPLES = 1 << 53
"""No client has more; what says so is no number of examples."""


def checked_mode(mode: str, aggregator: object) -> str:
    """``mode`` if it is one; raises ``UserCodeError``, which names the class of ``aggregator``."""
    if mode not in MODES:
        raise UserCodeError(
            f"client_weights_mode is {mode!r}; {type(aggregator).__name__} knows {' and '.join(MODES)}."
        )
    return mode


def shares(mode: str, metas: Sequence[UpdateMeta]) -> list[float]:
    """The share of each update among those that came: K numbers of sum 1.

    With s_k the part of its work that client k did, 1 for all of it.

    Args:
        mode: ``sample_size`` for s_k n_k by the sum of these, with n_k training examples of client k; ``equal`` for
            s_k by the sum of these. Also that where the numbers of examples cannot weigh: all are 0, or one is
            negative or above ``MOST_EXAMPLES``.
        metas: of the updates.
    """
    sizes = [meta.sample_size for meta in metas]
    alike = mode == "equal" or not any(sizes) or not all(map(_plausible, sizes))
    parts = [meta.share * (1 if alike else meta.sample_size) for meta in metas]
    total = math.fsum(parts)
    return [part / total for part in parts]


def shares_of_all(mode: str, metas: Sequence[UpdateMeta], cohort: Cohort) -> list[float]:
    """The share of each update's client among all clients of the run, whoever came, by the part that it did.

    Args:
        mode: ``sample_size`` for s_k times n_k training examples of client k by those of all clients, at most 1;
            ``equal`` for s_k by the number of clients. Also that where a number of examples cannot weigh.
        metas: of the updates.
        cohort: all clients.
    """
    alike = 1.0 / max(1, cohort.clients)
    if mode == "equal" or cohort.samples <= 0:
        return [meta.share * alike for meta in metas]
    return [
        meta.share * (min(1.0, meta.sample_size / cohort.samples) if _plausible(meta.sample_size) else alike)
        for meta in metas
    ]


def _plausible(size: int) -> bool:
    return 0 <= size <= MOST_EXAMPLES
