from __future__ import annotations

import pytest

from appfl_gc.config import Severity
from tests.config.conftest import Project, place

TRAIN = "client_configs.train_configs"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "hint"),
    [
        ("num_local_steps: 5", "train_batchsize: 3", 6, f"{TRAIN}.train_batchsize", "`train_batch_size`"),
        (
            "num_clients: 2",
            "num_global_epoch: 4",
            20,
            "server_configs.num_global_epoch",
            "`num_global_epochs`",
        ),
        (
            "client_weights_mode: equal",
            "weights: equal",
            24,
            "server_configs.aggregator_kwargs.weights",
            "It belongs to FedAsyncAggregator",
        ),
        (
            "num_clients: 2",
            "train_batch_size: 4",
            20,
            "server_configs.train_batch_size",
            f"belongs in `{TRAIN}`",
        ),
        ("num_global_epochs: 2", "\nextra: 1", 26, "extra", "client_configs, server_configs"),
    ],
)
def test_an_unknown_key_warns_with_the_nearest(
    project: Project, old: str, new: str, line: int, key: str, hint: str
) -> None:
    indent = "" if new.startswith("\n") else project.server.split(old)[0].rpartition("\n")[2]
    project.change_server(old, f"{old}\n{indent}{new}")
    found = project.only()
    assert found.severity is Severity.WARNING
    assert place(found) == {"file": "server.yaml", "line": line, "key": key}
    assert hint in found.hint
    assert project.only(strict=True).severity is Severity.ERROR


def test_an_unknown_key_of_a_client(project: Project) -> None:
    project.change_clients('client_id: "Client2"', 'client_id: "Client2"\n    data_config: {}')
    assert place(project.only()) == {"file": "clients.yaml", "line": 11, "key": "clients[1].data_config"}


def test_unknown_keys_do_not_travel(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    mine: 3")
    assert "mine" not in project.load().clients[0].site_config()["train_configs"]


def test_undeclared_keys_pass_to_a_trainer_of_the_users(project: Project) -> None:
    project.write("trainer.py", "class Mine:\n    pass\n")
    project.change_server(
        'trainer: "VanillaTrainer"', 'trainer: "Mine"\n    trainer_path: ./trainer.py\n    mine: {a: [1]}'
    )
    federation = project.load(strict=True)
    assert federation.warnings == ()
    assert federation.clients[0].train_configs.mine == {"a": (1,)}  # type: ignore[attr-defined]
    assert federation.clients[0].site_config()["train_configs"]["mine"] == {"a": [1]}


def test_undeclared_kwargs_pass_to_an_aggregator_and_a_scheduler_of_the_users(project: Project) -> None:
    project.write("mine.py", "class A:\n    pass\nclass S:\n    pass\n")
    project.change_server(
        'scheduler: "SyncScheduler"',
        'scheduler: "S"\n  scheduler_path: mine.py\n  scheduler_kwargs: {speed: 3}',
    )
    project.change_server('"FedAvgAggregator"', '"A"\n  aggregator_path: mine.py')
    project.change_server("client_weights_mode: equal", "strength: 4")
    federation = project.load(strict=True)
    assert federation.server_configs.scheduler_kwargs == {"speed": 3}
    assert federation.aggregator_kwargs() == {"strength": 4, "num_clients": 2, "gradient_based": False}
    assert set(federation.sources) == {"aggregator", "scheduler"}


@pytest.mark.parametrize("block", ["scheduler_kwargs", "aggregator_kwargs"])
def test_num_clients_in_its_old_place(project: Project, block: str) -> None:
    project.change_server("  aggregator_kwargs:\n    client_weights_mode: equal\n", "")
    project.change_server("  num_clients: 2\n", f"  {block}:\n    num_clients: 2\n")
    found = project.only()
    assert found.severity is Severity.WARNING
    assert place(found) == {"file": "server.yaml", "line": 20, "key": f"server_configs.{block}.num_clients"}
    federation = project.load()
    assert federation.server_configs.num_clients == 2
    assert "num_clients" not in getattr(federation.server_configs, block)


def test_num_clients_in_two_places_that_differ(project: Project) -> None:
    project.change_server("client_weights_mode: equal", "num_clients: 3")
    found = project.only()
    assert found.severity is Severity.ERROR
    assert "3" in found.message
    assert "2" in found.message


def test_the_old_place_of_the_bucket_switches_s3_on(project: Project) -> None:
    project.change_server(
        "server_configs:\n",
        "  comm_configs:\n    globus_compute_configs:\n      s3_bucket: models\nserver_configs:\n",
    )
    found = project.found()
    assert [(item.severity, item.line) for item in found] == [(Severity.WARNING, 20)]
    s3 = project.load().server_configs.comm_configs.s3_configs
    assert (s3.s3_bucket, s3.enable_s3) == ("models", True)


def test_misspelt_sample_keys_are_aliases(project: Project) -> None:
    project.change_server(
        "server_configs:\n",
        "  data_readiness_configs:\n    dr_metrics:\n      sparsity: True\n      outlier_propotion: True\n"
        "server_configs:\n",
    )
    found = project.found()
    assert [(item.severity, item.line) for item in found] == [(Severity.WARNING, 20), (Severity.WARNING, 21)]
    assert "overall_sparsity" in found[0].message
    assert "outlier_proportion" in found[1].message
    metrics = project.load().clients[0].settings.data_readiness_configs
    assert metrics is not None
    assert metrics.dr_metrics.overall_sparsity is True


def test_logging_id_stands_in_for_client_id(project: Project) -> None:
    project.change_clients('    client_id: "Client1"', "    train_configs: {logging_id: One}")
    assert "client_id" in project.only().message
    assert project.load().clients[0].client_id == "One"


def test_swapped_files(project: Project) -> None:
    project.server, project.clients = project.clients, project.server
    assert all("swapped" in found.hint for found in project.found())


@pytest.mark.parametrize(
    ("old", "new", "line", "meant"),
    [
        ("server_configs:", "server_config:", 18, "server_configs"),
        ("client_configs:", "clients_configs:", 1, "client_configs"),
        ("  train_configs:", "  train_config:", 2, "train_configs"),
        ("  model_configs:", "  models_configs:", 13, "model_configs"),
    ],
)
def test_a_misspelt_block_is_one_error(project: Project, old: str, new: str, line: int, meant: str) -> None:
    project.change_server(old, new)
    found = project.only()
    assert (found.severity, found.line) == (Severity.ERROR, line)
    assert found.hint == f"Did you mean `{meant}`?"


def test_a_key_of_another_scheduler(project: Project) -> None:
    project.change_server('"SyncScheduler"', '"SyncScheduler"\n  scheduler_kwargs: {max_local_steps: 3}')
    assert project.only().hint == "It belongs to CompassScheduler."


def test_a_key_that_is_given_twice_hides_no_other_error(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: five\n    mode: epoch")
    assert [found.line for found in project.found()] == [5, 6]
