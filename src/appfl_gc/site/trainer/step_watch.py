"""What happens after each optimiser step, whoever takes it: it is counted and told, and it may be the last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from appfl_gc.site.checkpoints import Checkpointer
from appfl_gc.site.stopping import NeverStop, StopReason, StopSignal


class TaskStopped(BaseException):
    """Raised out of an optimiser's step to end a trainer that does not ask by itself whether to stop.

    Not an ``Exception``, so that code which catches those lets it through.
    """


@dataclass
class StepWatch:
    """The steps of one attempt of a task.

    Attributes:
        stop: asked after every step but the last.
        on_step: told the steps done and planned.
        checkpoint: where the task goes on; None if it begins anew.
        keeps_part: at the end of the job the update is sent as it is, so that no checkpoint is needed.
        planned: steps of the whole task; 0 if that is not known.
        before: steps that an earlier attempt had done.
        steps: steps of this attempt.
        reason: why the task is to stop; None to go on.
        graceful: the trainer looks at ``reason`` after each of its steps.
    """

    stop: StopSignal = field(default_factory=NeverStop)
    on_step: Callable[[int, int], None] | None = None
    checkpoint: Checkpointer | None = None
    keeps_part: bool = False
    planned: int = 0
    before: int = 0
    steps: int = 0
    reason: StopReason | None = None
    graceful: bool = False

    @property
    def done(self) -> int:
        """Steps of the task, those of an earlier attempt included."""
        return self.before + self.steps

    @property
    def share(self) -> float | None:
        """The part of the task that is done, in [0, 1]; None if that is not known."""
        return self.done / self.planned if 0 <= self.done <= self.planned and self.planned else None

    @property
    def sends_part(self) -> bool:
        """Whether the update is sent although the task was stopped."""
        return self.keeps_part and self.reason is StopReason.WALLTIME and bool(self.share)

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a checkpoint is to be written now."""
        if self.checkpoint is None:
            return False
        return self.checkpoint.due(self.done) if self.reason is None else not self.sends_part

    def ask(self) -> bool:
        """Whether there is time for nothing more; ``reason`` is then set, unless the last step is done."""
        found = self.stop.reason()
        self.reason = None if self.done == self.planned else found
        return found is not None

    def stepped(self) -> None:
        """Note a step; raises ``TaskStopped`` if it was the last one of a trainer that is not ``graceful``."""
        self.steps += 1
        if self.on_step is not None:
            self.on_step(self.done, self.planned)
        self.ask()
        if self.reason is not None and not self.graceful:
            raise TaskStopped


@contextlib.contextmanager
def watched_steps(watch: StepWatch) -> Iterator[None]:
    """Tell ``watch`` the steps of every optimiser of ``torch.optim`` inside."""

    def stepped(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watch.stepped()

    hook = register_optimizer_step_post_hook(stepped)
    try:
        yield
    finally:
        hook.remove()
