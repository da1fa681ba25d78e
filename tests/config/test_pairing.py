"""Schedulers, aggregators and trainers that do not go together are told before anything runs."""

from __future__ import annotations

import re

import pytest

from appfl_gc.config import Severity
from tests.config.conftest import Project


def send_differences(project: Project) -> None:
    project.change_server("    num_local_steps: 5\n", "    num_local_steps: 5\n    send_gradient: True\n")


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
    assert "takes one client's for the mean of all" in found.message
    assert found.hint == "Use `FedAsyncAggregator`."

    project.change_server("FedAvgAggregator", "FedAsyncAggregator")
    assert "With full models" in project.only().message
    send_differences(project)
    assert project.found() == []


def test_a_buffer_needs_the_scheduler_that_fills_it(project: Project) -> None:
    change(project, aggregator="FedBuffAggregator")
    send_differences(project)
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


@pytest.mark.parametrize(
    ("aggregator", "kwargs", "key", "words"),
    [
        ("KrumAggregator", "num_byzantine: 5", "num_byzantine", "needs 13 clients, and there are 2"),
        ("KrumAggregator", "num_byzantine: 0", "num_byzantine", "needs 3 clients"),
        ("TrimmedMeanAggregator", "trim_fraction: 0.01", "trim_fraction", "less than one"),
        ("FedAsyncAggregator", "alpha: .inf", "alpha", "a finite number"),
        ("NormBoundingAggregator", "norm_bound: .inf", "norm_bound", "a finite number"),
    ],
)
def test_what_a_run_would_refuse_is_told_with_its_place(
    project: Project, aggregator: str, kwargs: str, key: str, words: str
) -> None:
    change(project, aggregator=aggregator)
    project.change_server("    client_weights_mode: equal\n", f"    {kwargs}\n")
    (found,) = [found for found in project.found() if found.severity is Severity.ERROR]
    assert found.key == f"server_configs.aggregator_kwargs.{key}"
    assert words in found.message


def test_two_clients_are_not_told_to_trim_what_can_not_be_trimmed(project: Project) -> None:
    change(project, aggregator="TrimmedMeanAggregator")
    project.change_server("    client_weights_mode: equal\n", "    trim_fraction: 0.01\n")
    assert project.only().hint == "Two clients have no minority: use another aggregator."


@pytest.mark.parametrize("value", ["1.5", "0.0", "0", "-1"])
def test_a_draw_is_a_number_or_a_share_of_clients(project: Project, value: str) -> None:
    project.change_server(
        "  num_global_epochs: 2\n",
        f"  num_global_epochs: 2\n  scheduler_kwargs: {{clients_per_round: {value}}}\n",
    )
    found = project.only()
    assert "a whole number of at least 1, or a share above 0 and at most 1.0" in found.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            'scheduler: "SyncScheduler"',
            "scheduler: FedCompass",
            "Did you mean `CompassScheduler`",
        ),
        (
            'aggregator: "FedAvgAggregator"',
            "aggregator: MedianAggregator",
            "Did you mean `CoordinateMedianAggregator`",
        ),
        ('aggregator: "FedAvgAggregator"', "aggregator: FedAvgAgregator", "Did you mean `FedAvgAggregator`"),
        ('aggregator: "FedAvgAggregator"', "aggregator: fedavgaggregator", "Did you mean `FedAvgAggregator`"),
        ('trainer: "VanillaTrainer"', "trainer: AdamTrainer", "Supported: VanillaTrainer"),
        ('trainer: "VanillaTrainer"', "trainer: FedBuffTrainer", "Supported: VanillaTrainer, FedProxTrainer"),
    ],
)
def test_a_hint_names_what_there_is(project: Project, old: str, new: str, words: str) -> None:
    project.change_server(old, new)
    (found,) = [found for found in project.found() if found.severity is Severity.ERROR]
    assert re.search(words, found.hint), found.hint
    assert "DIMAT" not in found.hint and "FedSB" not in found.hint


def test_what_comes_to_nothing_is_told(project: Project) -> None:
    change(project, scheduler="QueueScheduler", aggregator="FedQueueAggregator")
    project.change_server("    client_weights_mode: equal\n", "    staleness_fn: constant\n")
    project.change_server(
        "  num_global_epochs: 2\n", "  num_global_epochs: 2\n  scheduler_kwargs: {t_sync: 23, theta: 100}\n"
    )
    assert "leaves no time to train" in project.only().message


def test_a_buffer_larger_than_the_run_is_told(project: Project) -> None:
    change(project, scheduler="AsyncScheduler", aggregator="FedBuffAggregator")
    send_differences(project)
    project.change_server("    client_weights_mode: equal\n", "    K: 100\n")
    assert "never full in a run of 2 client updates" in project.only().message
