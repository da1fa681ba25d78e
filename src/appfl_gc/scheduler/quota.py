"""How many more updates a run takes, where ``num_global_epochs`` counts updates."""

from __future__ import annotations

from dataclasses import dataclass

from appfl_gc.scheduler.overdue import Overdue


@dataclass
class Quota:
    """Counts updates, so that exactly ``target`` are folded and no client trains what could not be used.

    Attributes:
        target: updates to fold in the whole run.
        waiting: updates that have arrived and are not folded.
        folded: updates that are part of the global model.
    """

    target: int
    waiting: int = 0
    folded: int = 0

    def places(self, busy: int, overdue: Overdue, now: float) -> int:
        """How many more dispatches may go out at ``now`` while ``busy`` are under way.

        Those that are overdue hold no place; they are looked for where that matters.
        """
        if self._left(busy, overdue) <= 0:
            overdue.look(now)
        return self._left(busy, overdue)

    def _left(self, busy: int, overdue: Overdue) -> int:
        return self.target - self.folded - self.waiting - (busy - len(overdue.clients))

    @property
    def complete(self) -> bool:
        """Whether all updates of the run have arrived."""
        return self.folded + self.waiting >= self.target

    @property
    def done(self) -> bool:
        """Whether all updates of the run are folded."""
        return self.folded >= self.target

    def fold(self, updates: int) -> None:
        """Count ``updates`` of those that wait as folded."""
        self.waiting -= updates
        self.folded += updates
