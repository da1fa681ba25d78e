"""The block ``scheduler_kwargs`` of each published scheduler."""

from __future__ import annotations

from typing import Literal

from appfl_gc.config.schema.block import Block, KwargsBlock, ignored, key, not_yet

QUEUE = "QueueScheduler is not built yet."
COMPASS = "CompassScheduler is not built yet."


class SyncSchedulerKwargs(Block):
    """``SyncScheduler`` and ``AsyncScheduler``."""

    same_init_model: bool = key(
        "All clients start from the server's initial model.",
        True,
        refused=(False,),
        why="Clients with initial models of their own are not built yet.",
    )
    optimize_memory: bool = ignored(
        "Published switch of memory optimisations.", "Memory is always used sparingly.", True, quiet=True
    )


class CompassSchedulerKwargs(SyncSchedulerKwargs):
    """``CompassScheduler``."""

    max_local_steps: int | None = not_yet("Most local steps of a client in a dispatch.", why=COMPASS)
    min_local_steps: int | None = not_yet("Fewest local steps of a client in a dispatch.", why=COMPASS)
    speed_momentum: float | None = not_yet("Weight of the old estimate of a client's speed.", why=COMPASS)
    latest_time_factor: float | None = not_yet("How late a member of a group may be.", why=COMPASS)


class QueueSchedulerKwargs(SyncSchedulerKwargs):
    """``QueueScheduler``."""

    t_sync: float = not_yet("Seconds between aggregations.", 3600.0, why=QUEUE)
    lr_base: float = not_yet("Base learning rate.", 0.01, why=QUEUE)
    warm_up_steps: int = not_yet("Local steps of the first dispatch.", 20, why=QUEUE)
    alpha_queue: float = not_yet("Weight of a new queue time in its average.", 0.5, why=QUEUE)
    alpha_compute: float = not_yet("Weight of a new step time in its average.", 0.5, why=QUEUE)
    safety_buffer: float = not_yet("Seconds kept free before an aggregation.", 60.0, why=QUEUE)
    admission_tolerance: float = not_yet(
        "How far past its time an update is still admitted.", 0.15, why=QUEUE
    )
    q_init: float = not_yet("First estimate of the queue time, in seconds.", 2.0, why=QUEUE)
    alpha_admission: float = not_yet("Weight of a new admission in its average.", 0.2, why=QUEUE)
    beta_queue: float | None = not_yet("Weight of the queue's spread; `alpha_queue` if left out.", why=QUEUE)
    theta: float | None = not_yet("Threshold of admission; `safety_buffer` if left out.", why=QUEUE)
    simulate_queue: bool = not_yet("Simulate queue times.", False, why=QUEUE)
    queue_mode: Literal["lognormal", "fixed", "off"] | None = not_yet(
        "How queue times are simulated.", why=QUEUE
    )
    queue_sigma: float = not_yet("Spread of simulated queue times.", 0.4, why=QUEUE)
    queue_means: KwargsBlock | list[float] | None = not_yet("Means of simulated queue times.", why=QUEUE)
    queue_fixed: KwargsBlock | list[float] | float | None = not_yet("Fixed simulated queue times.", why=QUEUE)
    slowdown: KwargsBlock | list[float] | float | None = not_yet("Simulated slowness of clients.", why=QUEUE)
    queue_seed: int | None = not_yet("Seed of the simulation.", why=QUEUE)
    log_fedqueue_metrics: bool = not_yet("Write the scheduler's estimates to a file.", False, why=QUEUE)
    fedqueue_log_dir: str | None = not_yet("Directory of that file.", why=QUEUE)


SCHEDULER_KWARGS: dict[str, type[Block]] = {
    "SyncScheduler": SyncSchedulerKwargs,
    "AsyncScheduler": SyncSchedulerKwargs,
    "CompassScheduler": CompassSchedulerKwargs,
    "QueueScheduler": QueueSchedulerKwargs,
}
