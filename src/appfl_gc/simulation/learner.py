"""What trains and folds in a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.wire import Json


@dataclass(frozen=True)
class Work:
    """One dispatch: who trains which version, with the scheduler's ``args``, for how many local steps."""

    client: str
    dispatch: int
    version: int
    args: Mapping[str, Json]
    steps: int

    @property
    def update(self) -> UpdateId:
        """What it leads to."""
        return UpdateId(self.client, self.dispatch)


@dataclass(frozen=True)
class Trained:
    """What a site tells of its training: training examples, and finite numbers such as metrics."""

    sample_size: int
    numbers: Mapping[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """The model of a simulation: a stub, or real training. Version 0 is there before anything is folded."""

    def steps(self, client: str, args: Mapping[str, Json]) -> int:
        """Local steps, at least 1, that a dispatch with these ``args`` does; asked when it goes out."""

    def train(self, work: Work) -> Trained:
        """Train ``work.version`` and keep the update under ``work.update`` until it is folded.

        Called when the update arrives: what is lost or cancelled is never trained. It depends on ``work`` only,
        not on the order of calls.
        """

    def fold(self, metas: Sequence[UpdateMeta], staleness: Sequence[int]) -> Mapping[str, float]:
        """Make the next version of these updates, in client order.

        Returns:
            Numbers of the new version for the timeline, such as its accuracy.
        """

    def forget(self, version: int) -> None:
        """Nobody will train this version any more."""
