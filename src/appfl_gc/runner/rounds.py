"""The books of rounds: means, the best model so far, and what is told of each."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.runner.events import RoundFinished, RoundStarted
from appfl_gc.runner.global_model import GlobalModel
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.metrics import BEST_BY, MetricsFile, weighted_means
from appfl_gc.runner.recorder import Recorder
from appfl_gc.runner.resume.past import RoundsDone
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.runner.validation import ServerValidation
from appfl_gc.scheduler.base import Counts


class Rounds:
    """Counts rounds (versions of the model) and updates, and keeps the last and the best model.

    A round's metrics are means over the updates that made it; where updates are counted and a version may be made of
    one client's, over the latest update of every client so far.
    """

    def __init__(
        self,
        directory: RunDirectory,
        model: GlobalModel,
        validation: ServerValidation | None,
        metrics: MetricsFile,
        journal: Journal,
        recorder: Recorder,
        counts: Counts,
    ) -> None:
        self._journal = journal
        self._counts = counts
        self._latest: dict[str, tuple[int, Mapping[str, float]]] = {}
        self._directory = directory
        self._model = model
        self._validation = validation
        self._metrics = metrics
        self._recorder = recorder
        self._begun = time.monotonic()
        self._best = math.inf
        self._best_by: str | None = None
        self.done = 0
        self.updates = 0
        self.last: Mapping[str, float] = {}

    def restore(self, done: RoundsDone, latest: Mapping[str, tuple[int, Mapping[str, float]]]) -> None:
        """Go on with the books of an earlier server; ``latest`` as in ``PastRun``."""
        self.done, self.updates, self.last = done.rounds, done.updates, done.metrics
        self._best = math.inf if done.best is None else done.best
        self._best_by = done.best_by
        self._latest = dict(latest)

    def begin(self) -> None:
        """The next round's first call is about to go out. Not called where there are no rounds."""
        self._begun = time.monotonic()
        self._recorder.tell(RoundStarted(self.done + 1))

    def start_clock(self) -> None:
        """Work begins after a time in which nobody had any: what was before counts to no version."""
        self._begun = time.monotonic()

    def set_aside(self, client: str) -> None:
        """``client`` takes no part any more, and its last update stands for nothing after it."""
        if self._latest.pop(client, None) is not None:
            self._best = math.inf

    def finish(self, updates: Sequence[UpdateMeta], staleness: Sequence[int], now: float) -> None:
        """The global model has a new version, made of ``updates``, at second ``now`` of the run.

        ``staleness`` is theirs, in versions; its mean is the metric ``staleness`` where updates are counted.
        """
        self._directory.keep_model(self._model.file, self._directory.last)
        metrics = weighted_means(self._reported(updates))
        if self._counts is Counts.UPDATES:
            metrics["staleness"] = sum(staleness) / max(1, len(staleness))
        if self._validation is not None:
            metrics.update(self._validation.evaluate(self._model.file))
        if self._best_by is None:
            self._best_by = next((name for name in BEST_BY if name in metrics), None)
        loss = metrics.get(self._best_by or "", math.inf)
        improved = loss < self._best
        if improved:
            self._best = loss
            self._directory.keep_model(self._model.file, self._directory.best)
        self.done += 1
        self.updates += len(updates)
        self.last = metrics
        seconds, self._begun = time.monotonic() - self._begun, time.monotonic()
        self._metrics.write(
            {
                **metrics,
                "kind": "round",
                "round": self.done,
                "at": now,
                "seconds": seconds,
                "clients": len(updates),
                "updates": self.updates,
            }
        )
        self._journal.append(
            now,
            "round",
            round=self.done,
            updates=self.updates,
            metrics=dict(metrics),
            best=None if math.isinf(self._best) else self._best,
            best_by=self._best_by,
        )
        self._recorder.tell(RoundFinished(self.done, seconds, metrics, improved, self.updates))

    def _reported(self, updates: Sequence[UpdateMeta]) -> Sequence[tuple[int, Mapping[str, float]]]:
        """Sample sizes and metrics that stand for the new version."""
        told = {meta.update.client: (meta.sample_size, meta.numbers) for meta in updates}
        if self._counts is Counts.ROUNDS:
            return list(told.values())
        if not told.keys() <= self._latest.keys():
            # A mean over more clients than before says nothing about what was the best.
            self._best = math.inf
        self._latest.update(told)
        return list(self._latest.values())
