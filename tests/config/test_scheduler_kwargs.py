"""The block ``scheduler_kwargs`` of each scheduler, as a user writes it."""

from __future__ import annotations

import pytest

from appfl_gc.config.diagnostic import Severity
from tests.config.conftest import Project

COMPASS = "max_local_steps: 100, min_local_steps: 20, speed_momentum: 0.9, latest_time_factor: 1.5"


def errors(project: Project, scheduler: str, kwargs: str) -> dict[str, str]:
    """What is wrong, by key."""
    project.change_server(
        '"SyncScheduler"', f'"{scheduler}"\n  scheduler_kwargs: {{same_init_model: True, {kwargs}}}'
    )
    return {
        found.key.rpartition(".")[2]: found.message
        for found in project.found()
        if found.severity is Severity.ERROR
    }


@pytest.mark.parametrize(
    ("scheduler", "kwargs"),
    [
        ("SyncScheduler", "clients_per_round: 1"),
        ("SyncScheduler", "clients_per_round: 1.0"),
        ("SyncScheduler", "clients_per_round: 0.07"),
        ("AsyncScheduler", "optimize_memory: True"),
        ("CompassScheduler", COMPASS),
        ("QueueScheduler", "t_sync: 23, lr_base: 0.001, safety_buffer: 5, beta_queue: 0.3, theta: 0"),
        ("QueueScheduler", "simulate_queue: False"),
    ],
)
def test_published_settings_pass(project: Project, scheduler: str, kwargs: str) -> None:
    assert errors(project, scheduler, kwargs) == {}


@pytest.mark.parametrize("value", ["0", "-3", "0.0", "1.5", "many", "True"])
def test_clients_per_round_is_a_number_or_a_share(project: Project, value: str) -> None:
    assert errors(project, "SyncScheduler", f"clients_per_round: {value}").keys() == {"clients_per_round"}


def test_what_compass_requires(project: Project) -> None:
    told = errors(project, "CompassScheduler", "min_local_steps: 20")
    assert told.keys() == {"max_local_steps", "speed_momentum", "latest_time_factor"}
    assert all("must be given" in message for message in told.values())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("max_local_steps: 100", "max_local_steps: 0"),
        ("min_local_steps: 20", "min_local_steps: 1.5"),
        ("speed_momentum: 0.9", "speed_momentum: 1.1"),
        ("latest_time_factor: 1.5", "latest_time_factor: 0.9"),
    ],
)
def test_ranges_of_compass(project: Project, right: str, wrong: str) -> None:
    told = errors(project, "CompassScheduler", COMPASS.replace(right, wrong))
    assert told.keys() == {wrong.partition(":")[0]}


@pytest.mark.parametrize(
    "wrong",
    ["t_sync: 0", "lr_base: 0", "warm_up_steps: 0", "alpha_queue: 2", "alpha_compute: -1", "beta_queue: 1.1"]
    + [
        f"{key}: -1" for key in ("safety_buffer", "theta", "q_init", "alpha_admission", "admission_tolerance")
    ],
)
def test_ranges_of_the_queue_scheduler(project: Project, wrong: str) -> None:
    assert errors(project, "QueueScheduler", wrong).keys() == {wrong.partition(":")[0]}


@pytest.mark.parametrize("switch", ["simulate_queue: True", "slowdown: 2.0", "slowdown: {a: 2}"])
def test_simulated_queues_are_refused_where_queues_are_real(project: Project, switch: str) -> None:
    told = errors(project, "QueueScheduler", switch)
    assert "appfl-gc simulate" in told[switch.partition(":")[0]]


def test_what_else_belongs_to_a_simulation_is_told_to_have_no_effect(project: Project) -> None:
    settings = "queue_mode: lognormal, queue_sigma: 0.4, queue_seed: 3, log_fedqueue_metrics: True"
    assert errors(project, "QueueScheduler", settings) == {}
    idle = {found.key.rpartition(".")[2] for found in project.found() if "has no effect" in found.message}
    assert {"queue_mode", "queue_sigma", "queue_seed", "log_fedqueue_metrics"} <= idle
