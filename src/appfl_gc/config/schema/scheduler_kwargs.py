"""The block ``scheduler_kwargs`` of each published scheduler."""

from __future__ import annotations

from typing import Literal

from appfl_gc.config.schema.block import ANY_VALUE, Block, KwargsBlock, Status, ignored, key

SIMULATION = "In a run queues are real; `appfl-gc simulate` plays them on a virtual clock."
JOURNAL = "The run's journal has every measurement and every dispatch."


class SchedulerKwargs(Block):
    """``AsyncScheduler``, and what all schedulers take."""

    same_init_model: bool = key(
        "All clients start from the server's initial model.",
        True,
        refused=(False,),
        why="Clients with initial models of their own are not built yet.",
    )
    optimize_memory: bool = ignored(
        "Published switch of memory optimisations.", "Memory is always used sparingly.", True, quiet=True
    )


class SyncSchedulerKwargs(SchedulerKwargs):
    """``SyncScheduler``."""

    clients_per_round: int | float | None = key(
        "How many clients each round draws by lot: a whole number, or a share of all clients (above 0, at most"
        " 1.0), rounded up. All if left out."
    )


class CompassSchedulerKwargs(SchedulerKwargs):
    """``CompassScheduler``."""

    max_local_steps: int | None = key(
        "Most local steps of a dispatch, and those of a client's first.", required=True, ge=1
    )
    min_local_steps: int | None = key(
        "Fewest local steps of a dispatch; not above `max_local_steps`.", required=True, ge=1
    )
    speed_momentum: float | None = key(
        "Weight of a new measurement in the average of a client's speed, from 0 to 1.",
        required=True,
        ge=0,
        le=1,
    )
    latest_time_factor: float | None = key(
        "How long a group is waited for, in multiples of the time that it is expected to take; at least 1.",
        required=True,
        ge=1,
    )


class QueueSchedulerKwargs(SchedulerKwargs):
    """``QueueScheduler``."""

    t_sync: float = key("Seconds that a round is to take.", 3600.0, gt=0)
    lr_base: float = key(
        "Learning rate of the client with the fewest local steps; who has more steps gets less.", 0.01, gt=0
    )
    warm_up_steps: int = key("Local steps of a client's first dispatch, and the fewest of any.", 20, ge=1)
    alpha_queue: float = key(
        "Weight of a new measurement in the average of a client's queue time, from 0 to 1, unless `beta_queue`"
        " is given.",
        0.5,
        ge=0,
        le=1,
    )
    alpha_compute: float = key(
        "Weight of a new measurement in the average of a client's time for a local step, from 0 to 1.",
        0.5,
        ge=0,
        le=1,
    )
    safety_buffer: float = key(
        "Seconds of `t_sync` that are kept free beside queue and training, unless `theta` is given.",
        60.0,
        ge=0,
    )
    admission_tolerance: float = key(
        "How far past `t_sync` a round waits for its clients, as a share of `t_sync`.", 0.15, ge=0
    )
    q_init: float = key("First estimate of a client's queue time, in seconds.", 2.0, ge=0)
    alpha_admission: float = key(
        "How far a queue time may be above its estimate for the update to count in its own round, as a share of"
        " `t_sync`.",
        0.2,
        ge=0,
    )
    beta_queue: float | None = key(
        "Weight of a new measurement in the average of a client's queue time, from 0 to 1; `alpha_queue` if left"
        " out.",
        ge=0,
        le=1,
    )
    theta: float | None = key(
        "Safety margin in seconds: what is kept free of `t_sync` beside queue and training; `safety_buffer` if"
        " left out.",
        ge=0,
    )
    simulate_queue: bool = key(
        "Simulate queue times.", False, status=Status.NEVER, why=SIMULATION, refused=(True,), quiet=True
    )
    queue_mode: Literal["lognormal", "fixed", "off"] | None = ignored(
        "How queue times are simulated.", SIMULATION
    )
    queue_sigma: float = ignored("Spread of simulated queue times.", SIMULATION, 0.4)
    queue_means: KwargsBlock | list[float] | None = ignored("Means of simulated queue times.", SIMULATION)
    queue_fixed: KwargsBlock | list[float] | float | None = ignored(
        "Fixed simulated queue times.", SIMULATION
    )
    slowdown: KwargsBlock | list[float] | float | None = key(
        "Simulated slowness of clients.",
        status=Status.NEVER,
        why=SIMULATION,
        refused=(ANY_VALUE,),
        quiet=True,
    )
    queue_seed: int | None = ignored("Seed of the simulation.", SIMULATION)
    log_fedqueue_metrics: bool = ignored("Write the scheduler's estimates to a file.", JOURNAL, False)
    fedqueue_log_dir: str | None = ignored("Directory of that file.", JOURNAL)


SCHEDULER_KWARGS: dict[str, type[Block]] = {
    "AsyncScheduler": SchedulerKwargs,
    "SyncScheduler": SyncSchedulerKwargs,
    "CompassScheduler": CompassSchedulerKwargs,
    "QueueScheduler": QueueSchedulerKwargs,
}
