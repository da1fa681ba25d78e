"""How many more updates a run takes, where ``num_global_epochs`` counts updates."""

from __future__ import annotations

from dataclasses import dataclass


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

    def places(self, busy: int) -> int:
        """How many more dispatches may go out while ``busy`` are under way."""
        return self.target - self.folded - self.waiting - busy

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
