"""Settings of schedulers and aggregators that contradict each other are told with their place."""

from __future__ import annotations

import pytest

from tests.config.conftest import Project, place

COMPASS = "{max_local_steps: 20, min_local_steps: 5, speed_momentum: 0.9, latest_time_factor: 1.5}"


def compass(project: Project, kwargs: str) -> None:
    project.change_server(
        'scheduler: "SyncScheduler"', f"scheduler: CompassScheduler\n  scheduler_kwargs: {kwargs}"
    )
    project.change_server('"FedAvgAggregator"', "FedCompassAggregator")
    project.change_server("    num_local_steps: 5\n", "    num_local_steps: 5\n    send_gradient: True\n")
    project.change_server("    client_weights_mode: equal\n", "    alpha: 0.9\n")


def test_a_range_of_steps_has_its_ends_in_order(project: Project) -> None:
    compass(project, COMPASS.replace("min_local_steps: 5", "min_local_steps: 21"))
    found = project.only()
    assert found.message == "`min_local_steps` is 21 and `max_local_steps` 20."
    assert place(found)["key"] == "server_configs.scheduler_kwargs.min_local_steps"


def test_a_momentum_is_at_most_one(project: Project) -> None:
    compass(project, COMPASS.replace("speed_momentum: 0.9", "speed_momentum: 3"))
    assert "at most 1" in project.only().message


@pytest.mark.parametrize(
    ("function", "given", "missing"),
    [
        ("polynomial", "{}", "`a`"),
        ("hinge", "{a: 0.5}", "`b`"),
        ("hinge", "{}", "`a` and `b`"),
        ("exponential", "{a: 1}", "`beta`"),
    ],
)
def test_a_staleness_function_needs_its_arguments(
    project: Project, function: str, given: str, missing: str
) -> None:
    compass(project, COMPASS)
    project.change_server(
        "    alpha: 0.9\n", f"    staleness_fn: {function}\n    staleness_fn_kwargs: {given}\n"
    )
    found = project.only()
    assert found.message == f"`staleness_fn: {function}` needs {missing}."
    assert place(found)["key"] == "server_configs.aggregator_kwargs.staleness_fn_kwargs"


def test_the_published_settings_are_right(project: Project) -> None:
    compass(project, COMPASS)
    project.change_server(
        "    alpha: 0.9\n",
        "    staleness_fn: polynomial\n    staleness_fn_kwargs: {a: 0.5}\n    weights: equal\n",
    )
    assert project.found() == []
