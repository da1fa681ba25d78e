"""Pictures of schedules: who trains when, and when the model changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from appfl_gc.simulation.builtin_profiles import builtin_profiles
from appfl_gc.simulation.draws import Lognormal
from appfl_gc.simulation.engine import simulate
from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.timeline import Timeline
from comparison.conditions import QUEUE_SIGMA, Condition
from comparison.methods import METHODS
from comparison.style import COLOURS, save
from comparison.trial import UNBOUNDED, NoTraining, scheduler_of

SECONDS = 150.0
QUEUES = {"Delta": 3.0, "Aurora": 5.0, "Polaris": 4.0, "Sophia": 6.0}
"""Mean queue times in the picture of FedQueue."""
WAIT, TRAIN, FOLD = "#bbbbbb", COLOURS["sky"], COLOURS["red"]
NARROW = 7.0
"""Bars of fewer virtual seconds carry no number."""


@dataclass(frozen=True)
class Picture:
    """A schedule to draw: of which method, with queues or not, and what its title says."""

    name: str
    method: str
    title: str
    queues: bool = False


PICTURES = (
    Picture("sync", "Sync", "Sync: a round is as long as its slowest client takes"),
    Picture("async", "Async", "Async: each update makes a new version at once"),
    Picture("fedbuff", "FedBuff", "FedBuff: two updates make a new version"),
    Picture("compass", "Compass", "Compass: slower clients get fewer steps, so that groups arrive together"),
    Picture("queue", "Queue", "Queue: as many steps as fit into a round after the queue", queues=True),
)


def draw_schedule(pictures: Sequence[Picture], path: Path) -> None:
    """Draw four supercomputers under the schedules of ``pictures``, one below the other."""
    figure, axes = plt.subplots(len(pictures), 1, figsize=(8, 0.5 + 1.9 * len(pictures)), squeeze=False)
    for axis, picture in zip(axes[:, 0], pictures, strict=True):
        _schedule(axis, picture)
    axes[-1, 0].set_xlabel("virtual seconds")
    parts = [Patch(facecolor=TRAIN, edgecolor="white", label="trains (local steps)")]
    if any(picture.queues for picture in pictures):
        parts.append(Patch(facecolor=WAIT, edgecolor="white", label="waits in the batch queue"))
    parts.append(Line2D([], [], color=FOLD, linewidth=1, label="new version of the model"))
    figure.legend(
        handles=parts, loc="lower center", ncols=len(parts), bbox_to_anchor=(0.5, -0.02), fontsize=8
    )
    figure.tight_layout(rect=(0, 0.06 / len(pictures), 1, 1))
    save(figure, path)


def _schedule(axis: Axes, picture: Picture) -> None:
    profiles = _profiles(picture.queues)
    condition = Condition("picture", "", len(profiles), lambda seed: profiles, 27.0)
    method = next(method for method in METHODS if method.name == picture.method)
    timeline = Timeline()
    scheduler = scheduler_of(method, condition, 0, UNBOUNDED)
    simulate(scheduler, profiles, NoTraining(), until=SECONDS, record=timeline.add)
    rows = {profile.client: place for place, profile in enumerate(reversed(profiles))}
    for work in timeline.work:
        place = rows[work.client]
        axis.broken_barh([(work.begin, work.queue)], (place - 0.36, 0.72), facecolor=WAIT, zorder=2)
        axis.broken_barh(
            [(work.begin + work.queue, work.end - work.begin - work.queue)], (place - 0.36, 0.72),
            facecolor=TRAIN, edgecolor="white", linewidth=1, zorder=2,
        )  # fmt: skip
        if work.end - work.begin - work.queue >= NARROW:
            middle = (work.begin + work.queue + work.end) / 2
            axis.text(middle, place, str(work.steps), ha="center", va="center", fontsize=7, zorder=3)
    for fold in timeline.folds:
        axis.axvline(fold.at, color=FOLD, linewidth=0.9, zorder=1)
    axis.set_yticks(list(rows.values()), list(rows))
    axis.set_xlim(0, SECONDS)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.grid(False)
    axis.set_title(picture.title, loc="left")


def _profiles(queues: bool) -> tuple[ClientProfile, ...]:
    machines = builtin_profiles("four-supercomputers")
    if not queues:
        return machines
    return tuple(
        replace(machine, queue_seconds=Lognormal(QUEUES[machine.client], QUEUE_SIGMA)) for machine in machines
    )
