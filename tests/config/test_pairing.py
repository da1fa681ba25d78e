"""Schedulers, aggregators and trainers that do not go together are told before anything runs."""

from __future__ import annotations

import pytest

from appfl_gc.config import Severity
from tests.config.conftest import Project


def change(project: Project, *, scheduler: str = "", aggregator: str = "", trainer: str = "") -> None:
    if scheduler:
        project.change_server('scheduler: "SyncScheduler"', f"scheduler: {scheduler}")
    if aggregator:
        project.change_server('aggregator: "FedAvgAggregator"', f"aggregator: {aggregator}")
    if trainer:
        project.change_server('trainer: "VanillaTrainer"', f"trainer: {trainer}")


@pytest.mark.parametrize("name", ["IIADMM", "ICEADMM"])
def test_an_admm_trainer_needs_its_aggregator_and_the_other_way_round(project: Project, name: str) -> None:
    change(project, trainer=f"{name}Trainer")
    found = project.only()
    assert found.severity is Severity.ERROR
    assert f"`{name}Trainer` sends what only `{name}Aggregator` understands" in found.message

    project.change_server('"FedAvgAggregator"', f"{name}Aggregator")
    assert [found for found in project.found() if found.severity is Severity.ERROR] == []

    project.change_server(f"trainer: {name}Trainer", "trainer: VanillaTrainer")
    (found,) = [found for found in project.found() if found.severity is Severity.ERROR]
    assert "a client has `VanillaTrainer`" in found.message
    assert found.hint == f"Set `client_configs.train_configs.trainer: {name}Trainer`."


def test_the_mean_of_one_update_replaces_the_model(project: Project) -> None:
    change(project, scheduler="AsyncScheduler")
    found = project.only()
    assert found.severity is Severity.WARNING
    assert "replaces the global model by one client's" in found.message
    assert found.hint == "Use `FedAsyncAggregator`."

    project.change_server("FedAvgAggregator", "FedAsyncAggregator")
    assert project.found() == []


def test_a_buffer_needs_the_scheduler_that_fills_it(project: Project) -> None:
    change(project, aggregator="FedBuffAggregator")
    project.change_server("client_weights_mode: equal", "K: 2")
    assert "`K` has no effect with `SyncScheduler`" in project.only().message

    project.change_server('"SyncScheduler"', "AsyncScheduler")
    assert project.found() == []
