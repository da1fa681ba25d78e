"""What happened in a simulation: a row for each dispatch and a row for each version of the model."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from appfl_gc.protocol.schedule import UpdateId


class Fate(str, enum.Enum):
    """What became of a dispatch."""

    ARRIVED = "arrived"
    LOST = "lost"
    DOWN = "client went down"
    CANCELLED = "cancelled"
    UNFINISHED = "unfinished"


@dataclass(frozen=True)
class WorkRow:
    """One dispatch, from the moment it goes out. Times are virtual seconds.

    Attributes:
        client, dispatch, version, steps: as in ``Work``.
        begin, end: when it went out, and when its fate was clear.
        queue, overhead, train, transfer: its durations, in this order; cut short where it did not arrive.
        fate: what became of it.
    """

    client: str
    dispatch: int
    version: int
    steps: int
    begin: float
    end: float
    queue: float
    overhead: float
    train: float
    transfer: float
    fate: Fate


@dataclass(frozen=True)
class FoldRow:
    """One new version of the global model.

    Attributes:
        at: virtual second.
        version: its number, from 1.
        updates: what it is made of, in client order.
        staleness: of each.
        steps: local steps of all of them together.
        numbers: what the learner tells of the version.
    """

    at: float
    version: int
    updates: tuple[UpdateId, ...]
    staleness: tuple[int, ...]
    steps: int
    numbers: Mapping[str, float] = field(default_factory=dict)


Row: TypeAlias = WorkRow | FoldRow
Record: TypeAlias = Callable[[Row], None]


@dataclass
class Timeline:
    """All rows in memory, in the order of their ends: for simulations of some 100,000 dispatches."""

    work: list[WorkRow] = field(default_factory=list)
    folds: list[FoldRow] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Keep a row: give this to ``simulate`` as ``record``."""
        if isinstance(row, WorkRow):
            self.work.append(row)
        else:
            self.folds.append(row)


def unrecorded(row: Row) -> None:
    """Keep nothing."""
