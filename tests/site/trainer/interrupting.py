"""Tasks that are stopped or killed after chosen steps, and tried again as another worker would."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from appfl_gc.protocol.identity import CallId
from appfl_gc.site.checkpoints import Checkpointer
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.trainer.run import TrainOutcome, TrainTask, run_trainer

LOGGER = logging.getLogger("interrupted")


class Killed(KeyboardInterrupt):
    """What ends a task as SIGKILL does: nothing of ours runs any more."""


@dataclass
class StopAfter:
    """Ends a task once ``steps`` are done: a ``StopSignal`` with a reason, or death without one."""

    steps: int
    why: StopReason | None = StopReason.CANCELLED
    done: int = 0
    planned: int = 0

    def reached(self, done: int, planned: int) -> None:
        self.done, self.planned = done, planned
        if self.why is None and done >= self.steps:
            raise Killed

    def reason(self) -> StopReason | None:
        return self.why if self.done >= self.steps else None


def checkpoint_in(directory: Path) -> Checkpointer:
    """The checkpoint of the one task of a test, as a new worker makes it."""
    return Checkpointer.of(directory, CallId("run", 3, "A"), "request", OutboxLimits(), LOGGER)


def uninterrupted(task: TrainTask) -> TrainOutcome:
    """The outcome of a task, on one thread, which is faster for small ones."""
    return run_trainer(replace(task, threads=1, logger=LOGGER))


def stopped_after(
    task: TrainTask,
    steps: int,
    directory: Path | None = None,
    why: StopReason | None = StopReason.CANCELLED,
) -> TrainOutcome:
    """An attempt that ends after ``steps`` steps."""
    stop = StopAfter(steps, why)
    checkpoint = None if directory is None else checkpoint_in(directory)
    return uninterrupted(replace(task, stop=stop, on_step=stop.reached, checkpoint=checkpoint))


def tried_again(task: TrainTask, directory: Path) -> TrainOutcome:
    """An attempt that nothing interrupts."""
    return uninterrupted(replace(task, checkpoint=checkpoint_in(directory)))


def interrupted(make: Callable[[], TrainTask], stops: Sequence[int], directory: Path) -> TrainOutcome:
    """The outcome of a task that was stopped after each of ``stops`` steps, of attempts that know no other."""
    for steps in stops:
        outcome = stopped_after(make(), steps, directory)
        assert not outcome.answers
        assert outcome.checkpoint_steps == steps
    last = tried_again(make(), directory)
    assert last.steps_before == (stops[-1] if stops else 0)
    return last


def bits(outcome: TrainOutcome) -> dict[str, Any]:
    """All of an outcome that must not depend on interruptions."""
    kept = outcome.client_state or {}
    return {
        "state": {name: tensor.tolist() for name, tensor in outcome.state.items()},
        "deltas": outcome.deltas,
        "steps": outcome.steps,
        "metrics": outcome.metrics,
        "rows": [(row.epoch, row.steps, dict(row.metrics)) for row in outcome.rows],
        "client": {name: torch.as_tensor(tensor).tolist() for name, tensor in kept.items()},
    }
