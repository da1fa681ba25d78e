"""Schedulers of every kind, and federations to try them on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from appfl_gc.protocol.schedule import UpdateMeta
from appfl_gc.protocol.wire import Json
from appfl_gc.scheduler.base import Scheduler
from appfl_gc.scheduler.registry import make_scheduler
from appfl_gc.simulation.availability import Availability
from appfl_gc.simulation.draws import Constant, Exponential, Lognormal
from appfl_gc.simulation.learner import Trained, Work
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.stub import local_steps

COMPASS = {"max_local_steps": 40, "min_local_steps": 5, "speed_momentum": 0.9, "latest_time_factor": 1.2}
QUEUE = {"t_sync": 30.0, "lr_base": 0.1, "warm_up_steps": 5, "theta": 2.0}
SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "sync": ("SyncScheduler", {}, 1),
    "sampled": ("SyncScheduler", {"clients_per_round": 0.5}, 1),
    "async": ("AsyncScheduler", {}, 1),
    "buffered": ("AsyncScheduler", {}, 3),
    "compass": ("CompassScheduler", COMPASS, 1),
    "queue": ("QueueScheduler", QUEUE, 1),
}


def scheduler(kind: str, epochs: int) -> Scheduler:
    name, kwargs, buffered = SCHEDULERS[kind]
    return make_scheduler(name, epochs, kwargs, 7, buffered)


class Counting:
    """A learner that keeps the books only."""

    def __init__(self, steps: int = 10) -> None:
        self._steps = steps
        self.trained: list[Work] = []
        self.folded: list[UpdateMeta] = []
        self.forgotten: list[int] = []

    def steps(self, client: str, args: Mapping[str, Json]) -> int:
        return local_steps(args, self._steps)

    def train(self, work: Work) -> Trained:
        assert work.version not in self.forgotten
        self.trained.append(work)
        return Trained(10)

    def fold(self, metas: list[UpdateMeta], staleness: list[int]) -> Mapping[str, float]:
        self.folded += metas
        return {"folded": float(len(self.folded))}

    def forget(self, version: int) -> None:
        self.forgotten.append(version)


def constant(client: str, step: float, **more: Any) -> ClientProfile:
    return ClientProfile(client, Constant(step), **more)


@st.composite
def profiles(draw: st.DrawFn) -> tuple[ClientProfile, ...]:
    """One to six clients, some slow to reach, some unreliable, some down at times."""
    made = []
    for number in range(draw(st.integers(1, 6))):
        down = draw(
            st.sampled_from(
                [
                    Availability(),
                    Availability(((5.0, 40.0),)),
                    Availability(((0.0, 3.0), (90.0, 120.0)), 200.0),
                ]
            )
        )
        made.append(
            ClientProfile(
                f"client-{number}",
                draw(st.sampled_from([Constant(0.1), Exponential(0.3), Lognormal(0.2, 0.5)])),
                queue_seconds=draw(st.sampled_from([Constant(0.0), Lognormal(5.0, 1.0)])),
                overhead_seconds=Constant(draw(st.sampled_from([0.0, 1.0]))),
                transfer_seconds=draw(st.sampled_from([Constant(0.0), Exponential(0.5)])),
                loss=draw(st.sampled_from([0.0, 0.0, 0.3])),
                availability=down,
                sample_size=draw(st.integers(0, 50)),
            )
        )  # fmt: skip
    return tuple(made)
