"""What a simulation comes to: totals for each client and for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appfl_gc.simulation.timeline import Fate, FoldRow, WorkRow


@dataclass
class ClientTotals:
    """One client's time in virtual seconds; the durations and ``idle`` and ``down`` add up to the simulation's.

    Attributes:
        updates: that arrived.
        steps: local steps of those.
        queue, overhead, train, transfer: seconds of those.
        wasted: seconds of dispatches that brought nothing.
        down: seconds in which it could not be reached.
        idle: seconds in which it could, and had no dispatch.
    """

    updates: int = 0
    steps: int = 0
    queue: float = 0.0
    overhead: float = 0.0
    train: float = 0.0
    transfer: float = 0.0
    wasted: float = 0.0
    down: float = 0.0
    idle: float = 0.0

    def add(self, row: WorkRow) -> None:
        """Count a dispatch whose fate is clear."""
        if row.fate is not Fate.ARRIVED:
            self.wasted += row.end - row.begin
            return
        self.updates += 1
        self.steps += row.steps
        self.queue += row.queue
        self.overhead += row.overhead
        self.train += row.train
        self.transfer += row.transfer

    def close(self, seconds: float, down: float) -> None:
        """The simulation took ``seconds``, in ``down`` of which the client could not be reached."""
        self.down = down
        spent = self.queue + self.overhead + self.train + self.transfer + self.wasted + down
        self.idle = max(0.0, seconds - spent)


@dataclass
class Summary:
    """A simulation in numbers.

    Attributes:
        clients: totals by client, in the order of the profiles.
        seconds: virtual seconds until the end.
        finished: the scheduler said so; otherwise time was up.
        events: that the scheduler heard.
        updates: that arrived.
        folded: updates that were folded.
        versions: of the global model besides the first.
        staleness_sum, max_staleness: over all folded updates.
        numbers: what the learner told of the last version.
    """

    clients: Mapping[str, ClientTotals]
    seconds: float = 0.0
    finished: bool = False
    events: int = 0
    folded: int = 0
    versions: int = 0
    staleness_sum: int = 0
    max_staleness: int = 0
    numbers: Mapping[str, float] = field(default_factory=dict)

    def fold(self, row: FoldRow) -> None:
        """Count a new version."""
        self.versions = row.version
        self.folded += len(row.updates)
        self.staleness_sum += sum(row.staleness)
        self.max_staleness = max(self.max_staleness, *row.staleness)
        self.numbers = row.numbers

    @property
    def updates(self) -> int:
        """Updates that arrived."""
        return sum(client.updates for client in self.clients.values())

    @property
    def steps(self) -> int:
        """Local steps of all updates that arrived."""
        return sum(client.steps for client in self.clients.values())

    @property
    def mean_staleness(self) -> float:
        """Mean over the folded updates; 0 if there is none."""
        return self.staleness_sum / self.folded if self.folded else 0.0

    @property
    def idle_share(self) -> float:
        """Idle seconds of the seconds in which clients could be reached."""
        return self._share("idle")

    @property
    def train_share(self) -> float:
        """Seconds of local steps of the seconds in which clients could be reached."""
        return self._share("train")

    def _share(self, name: str) -> float:
        reachable = sum(self.seconds - client.down for client in self.clients.values())
        spent: float = sum(getattr(client, name) for client in self.clients.values())
        return spent / reachable if reachable > 0 else 0.0
