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


@pytest.mark.parametrize(
    ("aggregator", "kwargs", "words"),
    [
        ("KrumAggregator", "num_byzantine: 1", "protects where a round has 5 updates, and here it has 4"),
        ("TrimmedMeanAggregator", "trim_fraction: 0.2", "of 4 updates is less than one"),
        ("CoordinateMedianAggregator", "", ""),
    ],
)
def test_a_draw_may_be_too_small_for_a_robust_aggregator(
    project: Project, aggregator: str, kwargs: str, words: str
) -> None:
    change(project, aggregator=aggregator)
    project.change_server("    client_weights_mode: equal\n", f"    {kwargs}\n")
    project.change_server(
        "  num_global_epochs: 2\n", "  num_global_epochs: 2\n  scheduler_kwargs: {clients_per_round: 0.4}\n"
    )
    project.change_server("num_clients: 2", "num_clients: 10")
    found = [found for found in project.found() if "num_clients" not in found.key]
    assert [words in item.message for item in found] == ([True] if words else [])


@pytest.mark.parametrize(
    ("trainer", "setting", "reader"),
    [("VanillaTrainer", "mu: 0.1", "FedProxTrainer"), ("FedProxTrainer", "init_penalty: 5", "IIADMMTrainer")],
)
def test_settings_of_another_trainer_are_told(
    project: Project, trainer: str, setting: str, reader: str
) -> None:
    change(project, trainer=trainer)
    project.change_server('    mode: "step"\n', f'    mode: "step"\n    {setting}\n')
    found = project.only()
    assert f"`{trainer}` does not read it" in found.message
    assert reader in found.hint


def test_admm_needs_no_optimiser(project: Project) -> None:
    change(project, trainer="IIADMMTrainer", aggregator="IIADMMAggregator")
    project.change_server('    optim: "Adam"\n    optim_args:\n      lr: 0.001\n', "")
    project.change_server("    client_weights_mode: equal\n", "    optimize_memory: True\n")
    assert project.found() == []
