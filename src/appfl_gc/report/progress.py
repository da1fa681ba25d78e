"""What is known of a run so far: the events folded into one record that every display reads."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.protocol.errors import ErrorReport
from appfl_gc.protocol.measures import Timing
from appfl_gc.runner.events import (
    ClientChanged,
    ClientFailed,
    ClientState,
    ClientTrained,
    EndpointsChecked,
    Logged,
    PayloadMoving,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    RunStarted,
    TaskProgressed,
)
from appfl_gc.scheduler.base import Counts

LOG_LINES_KEPT = 50
ROUNDS_FOR_ESTIMATE = 5
MOVING_SECONDS = 3.0

Clock = Callable[[], float]


@dataclass
class ClientProgress:
    """One client: its state now and the sums over its accepted updates.

    ``since`` is the time of run, in seconds, when it entered ``state``; ``total`` sums the seconds of all
    accepted updates; ``task_share`` is the part of the present task that its site has told of, or None.
    """

    name: str
    state: ClientState = ClientState.CONNECTING
    since: float = 0.0
    round: int = 0
    trained_round: int = 0
    detail: str = ""
    steps: int = 0
    samples: int = 0
    updates: int = 0
    failures: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    timing: Timing | None = None
    total: Timing = field(default_factory=lambda: Timing(0.0, 0.0, 0.0, 0.0))
    error: ErrorReport | None = None
    task_share: float | None = None

    @property
    def mean(self) -> Timing | None:
        """Mean seconds per accepted update; ``None`` before the first."""
        if not self.updates:
            return None
        total, count = self.total, self.updates
        return Timing(total.queue / count, total.compute / count, total.transfer / count, total.train / count)


@dataclass(frozen=True)
class LogLine:
    """A log line and the time of run, in seconds, when it came."""

    at: float
    logged: Logged


class RunProgress:
    """Folds events, in order, into what displays show. Not thread-safe: its owner locks."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """Count the time of run from now on with ``clock`` (seconds, monotonic)."""
        self._clock = clock
        self._zero = clock()
        self.run_id = ""
        self.run_dir: Path | None = None
        self.epochs = 0
        self.counts = Counts.ROUNDS
        self.model_bytes = 0
        self.parameters = 0
        self.clients: dict[str, ClientProgress] = {}
        self.endpoints: EndpointsChecked | None = None
        self.endpoints_at = 0.0
        self.round = 0
        self.round_began = 0.0
        self.done = 0
        self.round_seconds: deque[float] = deque(maxlen=ROUNDS_FOR_ESTIMATE)
        self.metrics: Mapping[str, float] = {}
        self.best = 0
        self.log: deque[LogLine] = deque(maxlen=LOG_LINES_KEPT)
        self.finished: RunFinished | None = None
        self._moving: tuple[float, PayloadMoving] | None = None

    @property
    def elapsed(self) -> float:
        """Time of run in seconds."""
        return self._clock() - self._zero

    @property
    def moving(self) -> PayloadMoving | None:
        """The payload that moves now; ``None`` if nothing was heard of one for ``MOVING_SECONDS``."""
        if self._moving is None or self.elapsed - self._moving[0] > MOVING_SECONDS:
            return None
        return self._moving[1]

    def client(self, name: str) -> ClientProgress:
        """The record of a client, made on first mention."""
        return self.clients.setdefault(name, ClientProgress(name, since=self.elapsed))

    def seconds_left(self) -> float | None:
        """Estimate from the mean of the last rounds; ``None`` before the first round ends."""
        if not self.round_seconds or self.finished is not None:
            return None
        mean = sum(self.round_seconds) / len(self.round_seconds)
        in_round = self.elapsed - self.round_began if self.round > self.done else 0.0
        return max(0.0, mean * (self.epochs - self.done) - min(in_round, mean))

    @property
    def unit(self) -> str:
        """What is counted up to ``epochs``: ``round`` or ``update``."""
        return "round" if self.counts is Counts.ROUNDS else "update"

    @property
    def task(self) -> str:
        """What a client's dispatches are numbered as: ``round``, or ``task`` where there are no rounds."""
        return "round" if self.counts is Counts.ROUNDS else "task"

    def apply(self, event: RunEvent) -> None:
        """Take one event in."""
        match event:
            case RunStarted():
                self.run_id, self.run_dir = event.run_id, event.run_dir
                self.epochs, self.counts = event.epochs, event.counts
                self.model_bytes, self.parameters = event.model_bytes, event.parameters
                by_rounds = event.counts is Counts.ROUNDS
                self.done = self.round = event.rounds_done if by_rounds else event.updates_done
                for name in event.clients:
                    self.client(name)
            case EndpointsChecked():
                self.endpoints, self.endpoints_at = event, self.elapsed
            case ClientChanged():
                self._changed(event)
            case PayloadMoving():
                self._moving = self.elapsed, event
            case TaskProgressed():
                if event.planned:
                    self.client(event.client).task_share = min(1.0, event.steps / event.planned)
            case ClientTrained():
                self._trained(event)
            case RoundStarted():
                self.round, self.round_began = event.round, self.elapsed
            case RoundFinished():
                self._finished_round(event)
            case ClientFailed():
                self._failed(event)
            case Logged():
                self.log.append(LogLine(self.elapsed, event))
            case RunFinished():
                self.finished = event

    def _finished_round(self, event: RoundFinished) -> None:
        before, self.metrics = self.done, event.metrics
        self.done = event.round if self.counts is Counts.ROUNDS else event.updates
        self.round = max(self.round, self.done)
        self.round_seconds.append(event.seconds / max(1, self.done - before))
        if event.improved:
            self.best = self.done

    def _changed(self, event: ClientChanged) -> None:
        client = self.client(event.client)
        if event.state is not client.state:
            client.since = self.elapsed
            client.task_share = None
        client.state, client.detail = event.state, event.detail
        client.round = event.round or client.round
        client.bytes_down += event.bytes_down
        client.bytes_up += event.bytes_up

    def _failed(self, event: ClientFailed) -> None:
        client = self.client(event.client)
        client.failures += 1
        client.error = event.error
        level = logging.ERROR if event.final else logging.WARNING
        self.log.append(LogLine(self.elapsed, Logged(event.error.message, level, event.client)))

    def _trained(self, event: ClientTrained) -> None:
        client = self.client(event.client)
        client.round = client.trained_round = event.round
        client.steps, client.samples = event.steps, event.sample_size
        client.metrics, client.timing = event.metrics, event.timing
        client.updates += 1
        total, last = client.total, event.timing
        client.total = Timing(
            total.queue + last.queue,
            total.compute + last.compute,
            total.transfer + last.transfer,
            total.train + last.train,
        )
