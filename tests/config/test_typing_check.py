from __future__ import annotations

import pytest

from appfl_gc.config import Severity
from tests.config.conftest import Project, place


@pytest.mark.parametrize(
    ("old", "new", "words", "hint"),
    [
        ("num_local_steps: 5", 'num_local_steps: "5"', "a whole number, found '5'", "quotes"),
        ("num_local_steps: 5", "num_local_steps: 5.5", "a whole number, found 5.5", ""),
        ("num_local_steps: 5", "num_local_steps: 0", "at least 1, found 0", ""),
        ("num_local_steps: 5", "num_local_steps: [5]", "a whole number, found a list", ""),
        ("num_local_steps: 5", "num_local_steps: True", "a whole number, found True", ""),
        ('mode: "step"', 'mode: "steps"', "one of epoch, step, fit or partial_fit, found 'steps'", "`step`"),
        (
            'mode: "step"',
            'mode: "step"\n    do_validation: "False"',
            "true or false, found 'False'",
            "quotes",
        ),
        ('mode: "step"', "mode: step\n    clip_value: big", "a number, found 'big'", ""),
        ('mode: "step"', "mode: step\n    device: cuda:0,gpu", "a device such as", ""),
        ('mode: "step"', "mode: step\n    on_walltime: part", "one of checkpoint or partial", "`partial`"),
        ('mode: "step"', "mode: step\n    checkpoint_steps: 0", "at least 1", ""),
        ('mode: "step"', "mode: step\n    checkpoint_seconds: -1", "at least 0", ""),
        ('mode: "step"', "mode: step\n    walltime_seconds: 0", "more than 0.0, found 0", ""),
        ('loss_fn_name: "CELoss"', "loss_fn_name: 3", "text, found 3", "quotes"),
        ("    optim_args:\n      lr: 0.001", "    optim_args: 3", "a block of keys, found 3", ""),
        ("  num_clients: 2", "  num_clients: 2\n  comm_configs: 3", "a block of keys, found 3", ""),
        (
            "  num_clients: 2",
            "  num_clients: 2\n  control_configs: {engine: Threads}",
            "ProcessPoolEngine",
            "",
        ),
        ("  num_clients: 2", "  num_clients: 2\n  fault_tolerance_configs: {quorum: 1.5}", "at most 1", ""),
        (
            "  num_clients: 2",
            "  num_clients: 2\n  fault_tolerance_configs: {quorum: 3}",
            "more than the 2",
            "",
        ),
    ],
)
def test_a_wrong_value_says_what_was_expected_and_found(
    project: Project, old: str, new: str, words: str, hint: str
) -> None:
    project.change_server(old, new)
    found = project.only()
    assert found.severity is Severity.ERROR
    assert words in found.message
    assert hint in found.hint
    assert found.line is not None


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1", "cuda:0,cuda:1", "xpu", "xpu:2", "mps", "auto"])
def test_devices(project: Project, device: str) -> None:
    project.change_server('mode: "step"', f'mode: "step"\n    device: "{device}"')
    assert project.load().clients[0].train_configs.device == device


def test_all_errors_at_once_and_shared_ones_once(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: five\n    use_dp: True")
    project.change_server("num_global_epochs: 2", "num_global_epochs: -1")
    project.change_clients("endpoint_id: local", "endpoint_id: remote")
    project.change_clients("dataset_path: ./dataset.py" if False else '"get_data"', '"get_date"')
    found = project.found()
    assert [(item.file.rpartition("/")[2], item.line) for item in found] == [
        ("clients.yaml", 2), ("clients.yaml", 6), ("server.yaml", 5), ("server.yaml", 6), ("server.yaml", 25),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("    use_dp: True", "use_dp"),
        ("    use_secure_agg: True", "use_secure_agg"),
        ("    deepspeed: {stage: 3}", "deepspeed"),
        ("  data_readiness_configs: {generate_dr_report: True}", "generate_dr_report"),
        ("  wandb_configs: {enable_wandb: True}", "enable_wandb"),
        ("  mlflow_configs: {enable_mlflow: True}", "enable_mlflow"),
    ],
)
def test_what_is_not_built_is_refused_when_on_and_silent_when_off(
    project: Project, text: str, key: str
) -> None:
    anchor = '    metric_name: "accuracy"\n'
    project.change_server(anchor, f"{anchor}{text}\n")
    found = project.only()
    assert found.severity is Severity.ERROR
    assert "not supported yet" in found.message
    assert found.line == 13
    assert found.key.endswith(key)
    project.server = project.server.replace("True", "False").replace("{stage: 3}", "{}")
    assert project.found() == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("VanillaTrainer", "MonaiTrainer"),
        ("FedAvgAggregator", "FedSBAggregator"),
        ("client_weights_mode: equal", "use_secure_agg: True"),
        ('"SyncScheduler"', '"SyncScheduler"\n  scheduler_kwargs: {same_init_model: False}'),
        ("num_clients: 2", "num_clients: 2\n  deepspeed: True"),
    ],
)
def test_published_names_that_are_not_built(project: Project, old: str, new: str) -> None:
    project.change_server(old, new)
    errors = [found for found in project.found() if found.severity is Severity.ERROR]
    assert len(errors) == 1
    assert "not supported yet" in errors[0].message


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("VanillaTrainer", "VanilaTrainer", "`VanillaTrainer`"),
        ("SyncScheduler", "SyncSheduler", "`SyncScheduler`"),
        ("FedAvgAggregator", "FedAvg", "`FedAvgAggregator`"),
        ('"Adam"', '"Addam"', "`Adam`"),
        ('loss_fn_path: "./loss.py"', "loss_fn: CrossEntropyLos", "`CrossEntropyLoss`"),
    ],
)
def test_misspelt_names(project: Project, old: str, new: str, hint: str) -> None:
    project.change_server(old, new)
    found = project.only()
    assert found.severity is Severity.ERROR
    assert hint in found.hint


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('    trainer: "VanillaTrainer"\n', "client_configs.train_configs.trainer"),
        ('    mode: "step"\n', "client_configs.train_configs.mode"),
        ("    num_local_steps: 5\n", "client_configs.train_configs.num_local_steps"),
        ('    optim: "Adam"\n', "client_configs.train_configs.optim"),
        ('    loss_fn_path: "./loss.py"\n', "client_configs.train_configs.loss_fn"),
        ('    model_path: "./model.py"\n', "client_configs.model_configs.model_path"),
        ("  num_clients: 2\n", "server_configs.num_clients"),
        ('  scheduler: "SyncScheduler"\n', "server_configs.scheduler"),
        ('  aggregator: "FedAvgAggregator"\n', "server_configs.aggregator"),
        ("  num_global_epochs: 2\n", "server_configs.num_global_epochs"),
    ],
)
def test_a_missing_key_points_to_its_block(project: Project, line: str, key: str) -> None:
    project.change_server(line, "")
    found = project.only()
    assert found.severity is Severity.ERROR
    assert found.key == key
    assert project.server.splitlines()[(found.line or 0) - 1].strip() == f"{key.split('.')[-2]}:"


def test_missing_keys_of_a_client(project: Project) -> None:
    project.change_clients('      dataset_path: "./dataset.py"\n', "")
    assert place(project.only())["key"] == "clients[0].data_configs.dataset_path"


def test_metric_and_arguments_of_the_optimiser_may_be_left_out(project: Project) -> None:
    project.change_server('    metric_path: "./metric.py"\n    metric_name: "accuracy"\n', "")
    project.change_server("    optim_args:\n      lr: 0.001\n", "")
    assert project.found() == []


def test_an_empty_value_means_the_default(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    train_batch_size:\n    dp_config:")
    project.change_server("server_configs:\n", "  comm_configs:\nserver_configs:\n  comm_configs:\n")
    assert project.found() == []
    assert project.load().clients[0].train_configs.train_batch_size == 32


def test_a_value_left_open(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: ???")
    assert "left open" in project.only().message
    federation = project.load(overrides=["client_configs.train_configs.num_local_steps=9"])
    assert federation.clients[0].train_configs.num_local_steps == 9


def test_keys_without_effect(project: Project) -> None:
    project.change_server(
        "num_clients: 2", "num_clients: 2\n  server_validation: True\n  optimize_memory: False"
    )
    found = project.only(strict=True)
    assert found.severity is Severity.NOTE
    assert "val_data_configs" in found.hint
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    checkpoint_dirname: x")
    assert [item.severity for item in project.found()] == [Severity.WARNING, Severity.NOTE]


def test_gradient_based_follows_send_gradient(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    send_gradient: True")
    assert project.load(strict=True).aggregator_kwargs()["gradient_based"] is True
    assert "gradient_based" not in project.load().server_configs.aggregator_kwargs
    project.change_server("client_weights_mode: equal", "gradient_based: False")
    assert "no effect" in project.only().message


def test_a_margin_that_leaves_no_time_of_the_job(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    walltime_seconds: 60")
    found = project.only()
    assert place(found)["key"].endswith("train_configs.walltime_margin_seconds")
    assert "at once: it is to stop 60 s before the end of a job of 60 s." in found.message
    project.change_server("walltime_seconds: 60", "walltime_seconds: 3600")
    assert project.found() == []
