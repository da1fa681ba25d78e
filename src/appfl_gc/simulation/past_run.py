"""Client profiles from a run's journal: what each client took yesterday, sample by sample."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.schedule import (
    Arrived,
    ClientDown,
    ClientUp,
    Finish,
    Refused,
    Started,
    UpdateMeta,
)
from appfl_gc.runner.journal import JournalError
from appfl_gc.runner.replay import SchedulerStep, recorded_steps
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.draws import MOST, Samples
from appfl_gc.simulation.profile import ClientProfile


@dataclass
class _Seen:
    """What the journal says of one client."""

    metas: list[UpdateMeta] = field(default_factory=list)
    lost: int = 0
    down_since: float | None = None
    down: list[tuple[float, float]] = field(default_factory=list)

    def goes_down(self, at: float) -> None:
        self.down_since = at if self.down_since is None else self.down_since

    def comes_up(self, at: float) -> None:
        if self.down_since is not None and at > self.down_since:
            self.down.append((self.down_since, at))
        self.down_since = None

    def profile(self, client: str) -> ClientProfile:
        self.comes_up(math.inf)
        timings = [meta.timing for meta in self.metas]
        return ClientProfile(
            client,
            step_seconds=_samples(meta.timing.train / max(1, meta.steps) for meta in self.metas),
            queue_seconds=_samples(timing.queue for timing in timings),
            overhead_seconds=_samples(timing.compute - timing.train for timing in timings),
            transfer_seconds=_samples(timing.transfer for timing in timings),
            loss=self.lost / (self.lost + len(self.metas)),
            availability=Availability(tuple(self.down)),
            sample_size=self.metas[-1].sample_size,
        )


def _samples(seconds: Iterable[float]) -> Samples:
    """Measured seconds; a site chose some of them, so that they may be out of all bounds."""
    return Samples(tuple(min(max(0.0, value), MOST) for value in seconds))


@dataclass(frozen=True)
class PastRun:
    """What a run tells of its clients.

    Attributes:
        clients: all of them, in configuration order.
        profiles: of the clients that delivered at least once, in the same order.
        steps: local steps of each client's last update.
        seconds: from the scheduler's first event to its last.
        updates: that arrived.
        local_steps: of those.
        finished: the scheduler said so; otherwise the run ended before, or goes on.
    """

    clients: tuple[str, ...]
    profiles: tuple[ClientProfile, ...]
    steps: dict[str, int]
    seconds: float
    updates: int
    local_steps: int
    finished: bool

    @property
    def silent(self) -> tuple[str, ...]:
        """The clients that never delivered; nothing is known of their speed."""
        return tuple(client for client in self.clients if client not in self.steps)


def read_past_run(path: Path) -> PastRun:
    """The profiles that the journal of the run directory ``path`` gives.

    Each client's queue, overhead, seconds a step and transfer are those that it had, in their order and from the
    start again. It is down when it was, and loses as large a share of its dispatches. Time begins with the first
    dispatches: what came before, such as greeting the clients, does not count.

    Raises:
        UsageError: if this is no run directory, or its journal is damaged or tells nothing of the schedule.
    """
    directory = RunDirectory(path)
    if not directory.journal.is_file():
        raise UsageError(
            f"{path} is not a run directory: it has no journal.jsonl.",
            "Name the directory that `appfl-gc run` shows, such as output/2026-11-21-09-30-00-1f3a9c.",
        )
    try:
        return _read(recorded_steps(directory.journal), path)
    except JournalError as error:
        raise UsageError(error.message, "Take another run, or describe its clients for --profiles.") from None


def _read(steps: Iterable[SchedulerStep], path: Path) -> PastRun:
    seen: dict[str, _Seen] = defaultdict(_Seen)
    clients: tuple[str, ...] = ()
    begin = at = 0.0
    finished = False
    for step in steps:
        event, at = step.event, step.now - begin
        finished = finished or any(isinstance(action, Finish) for action in step.actions)
        match event:
            case Started():
                begin, at = step.now, 0.0
                clients = event.clients
                for client in event.awaited:
                    seen[client].goes_down(0.0)
            case Arrived():
                seen[event.meta.update.client].metas.append(event.meta)
            case Refused():
                refused = seen[event.update.client]
                refused.lost += refused.down_since is None
            case ClientDown():
                seen[event.client].goes_down(at)
            case ClientUp():
                seen[event.client].comes_up(at)
            case _:
                pass
    if not clients:
        raise UsageError(
            f"The journal of {path} does not say what its scheduler heard: the run is of an earlier version or never "
            "began.",
            "Take a run of this version, or describe its clients in a file for --profiles.",
        )
    delivered = [client for client in clients if seen[client].metas]
    if not delivered:
        raise UsageError(
            f"No client of the run {path} has delivered an update, so there is nothing to learn."
        )
    metas = [meta for client in delivered for meta in seen[client].metas]
    return PastRun(
        clients,
        tuple(seen[client].profile(client) for client in delivered),
        {client: seen[client].metas[-1].steps for client in delivered},
        at,
        len(metas),
        sum(meta.steps for meta in metas),
        finished,
    )
