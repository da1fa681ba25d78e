"""The example YAML files have the published keys, and name files and functions that are there."""

from __future__ import annotations

import ast
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml

from appfl_gc.config import Severity, check, load

EXAMPLES = Path(__file__).parents[2] / "examples"
MNIST = EXAMPLES / "resources" / "config_gc" / "mnist"

PUBLISHED_SERVER = {
    "client_configs.train_configs.trainer": "VanillaTrainer",
    "client_configs.train_configs.mode": "step",
    "client_configs.train_configs.num_local_steps": 100,
    "client_configs.train_configs.optim": "Adam",
    "client_configs.train_configs.optim_args.lr": 0.001,
    "client_configs.train_configs.loss_fn_path": "./resources/loss/celoss.py",
    "client_configs.train_configs.loss_fn_name": "CELoss",
    "client_configs.train_configs.do_validation": True,
    "client_configs.train_configs.do_pre_validation": True,
    "client_configs.train_configs.metric_path": "./resources/metric/acc.py",
    "client_configs.train_configs.metric_name": "accuracy",
    "client_configs.train_configs.use_dp": False,
    "client_configs.train_configs.epsilon": 1,
    "client_configs.train_configs.clip_grad": False,
    "client_configs.train_configs.clip_value": 1,
    "client_configs.train_configs.clip_norm": 1,
    "client_configs.train_configs.train_batch_size": 64,
    "client_configs.train_configs.val_batch_size": 64,
    "client_configs.train_configs.train_data_shuffle": True,
    "client_configs.train_configs.val_data_shuffle": False,
    "client_configs.model_configs.model_path": "./resources/model/cnn.py",
    "client_configs.model_configs.model_name": "CNN",
    "client_configs.model_configs.model_kwargs.num_channel": 1,
    "client_configs.model_configs.model_kwargs.num_classes": 10,
    "client_configs.model_configs.model_kwargs.num_pixel": 28,
    "client_configs.comm_configs.compressor_configs.enable_compression": False,
    "client_configs.comm_configs.compressor_configs.lossy_compressor": "SZ2Compressor",
    "client_configs.comm_configs.compressor_configs.lossless_compressor": "blosc",
    "client_configs.comm_configs.compressor_configs.error_bounding_mode": "REL",
    "client_configs.comm_configs.compressor_configs.error_bound": "1e-3",  # text to PyYAML
    "client_configs.comm_configs.compressor_configs.param_cutoff": 1024,
    "client_configs.comm_configs.s3_configs.enable_s3": False,
    "client_configs.comm_configs.s3_configs.s3_bucket": "appflx-models",
    "client_configs.comm_configs.s3_configs.s3_creds_file": "./resources/config_gc/creds/credential.csv",
    "server_configs.num_clients": 2,
    "server_configs.scheduler": "SyncScheduler",
    "server_configs.scheduler_kwargs.same_init_model": True,
    "server_configs.aggregator": "FedAvgAggregator",
    "server_configs.aggregator_kwargs.client_weights_mode": "equal",
    "server_configs.device": "cpu",
    "server_configs.num_global_epochs": 2,
    "server_configs.server_validation": False,
    "server_configs.logging_output_dirname": "./output",
    "server_configs.logging_output_filename": "result",
}
WITH_VALIDATION = {
    "client_configs.train_configs.do_pre_validation": False,
    "server_configs.val_data_configs.dataset_path": "./resources/dataset/mnist_dataset.py",
    "server_configs.val_data_configs.dataset_name": "get_mnist_testset",
    "server_configs.val_data_configs.batch_size": 64,
}
DIFFERENCES = {"client_configs.train_configs.send_gradient": True}
POLYNOMIAL = {
    "server_configs.aggregator_kwargs.staleness_fn": "polynomial",
    "server_configs.aggregator_kwargs.staleness_fn_kwargs.a": 0.5,
    "server_configs.aggregator_kwargs.alpha": 0.9,
    "server_configs.aggregator_kwargs.gradient_based": True,
}
ASYNC = {
    **DIFFERENCES,
    **POLYNOMIAL,
    "server_configs.scheduler": "AsyncScheduler",
    "server_configs.aggregator": "FedAsyncAggregator",
    "server_configs.num_global_epochs": 20,
}
COMPASS = {
    **DIFFERENCES,
    **POLYNOMIAL,
    "server_configs.scheduler": "CompassScheduler",
    "server_configs.scheduler_kwargs.max_local_steps": 100,
    "server_configs.scheduler_kwargs.min_local_steps": 20,
    "server_configs.scheduler_kwargs.speed_momentum": 0.9,
    "server_configs.scheduler_kwargs.latest_time_factor": 1.5,
    "server_configs.aggregator": "FedCompassAggregator",
    "server_configs.aggregator_kwargs.weights": "equal",
    "server_configs.num_global_epochs": 20,
}
QUEUE = {
    **DIFFERENCES,
    "client_configs.train_configs.num_local_steps": 20,
    "server_configs.scheduler": "QueueScheduler",
    "server_configs.scheduler_kwargs.t_sync": 23,
    "server_configs.scheduler_kwargs.lr_base": 0.001,
    "server_configs.scheduler_kwargs.warm_up_steps": 20,
    "server_configs.scheduler_kwargs.alpha_queue": 0.5,
    "server_configs.scheduler_kwargs.alpha_compute": 0.5,
    "server_configs.scheduler_kwargs.safety_buffer": 5,
    "server_configs.scheduler_kwargs.admission_tolerance": 0.15,
    "server_configs.aggregator": "FedQueueAggregator",
    "server_configs.aggregator_kwargs.weights": "equal",
    "server_configs.aggregator_kwargs.staleness_fn": "harmonic",
    "server_configs.aggregator_kwargs.staleness_fn_kwargs.beta": 0.5,
    "server_configs.num_global_epochs": 20,
}
NO_MODE = ("server_configs.aggregator_kwargs.client_weights_mode",)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dictionaries by their dotted keys."""
    leaves = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def read(name: str) -> Any:
    return yaml.safe_load((MNIST / name).read_text())


def test_the_server_files_are_the_published_ones() -> None:
    assert flat(read("server_fedavg.yaml")) == PUBLISHED_SERVER
    assert flat(read("server_fedavg_withval.yaml")) == PUBLISHED_SERVER | WITH_VALIDATION


@pytest.mark.parametrize(
    ("name", "changed", "left_out"),
    [
        ("server_fedasync.yaml", ASYNC, ()),
        ("server_fedcompass.yaml", COMPASS, NO_MODE),
        ("server_fedcompass_withval.yaml", COMPASS | WITH_VALIDATION, NO_MODE),
        ("server_fedqueue.yaml", QUEUE, NO_MODE),
        (
            "server_fedbuff.yaml",
            ASYNC
            | {
                "server_configs.aggregator": "FedBuffAggregator",
                "server_configs.aggregator_kwargs.K": 2,
            },
            (),
        ),
    ],
)
def test_the_other_algorithms_change_what_the_published_files_change(
    name: str, changed: dict[str, Any], left_out: tuple[str, ...]
) -> None:
    expected = {key: value for key, value in PUBLISHED_SERVER.items() if key not in left_out}
    assert flat(read(name)) == expected | changed


@pytest.mark.parametrize(
    "name", sorted(path.name for path in MNIST.glob("server_*.yaml") if "fedavg" not in path.name)
)
def test_every_algorithm_is_valid_without_a_warning(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = check(MNIST / name, MNIST / "clients.yaml", strict=True)
    assert [item for item in found if item.severity is not Severity.NOTE] == []


def test_the_old_place_of_the_bucket_without_a_bucket_leaves_s3_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(EXAMPLES)
    tree = read("server_fedasync.yaml")
    del tree["client_configs"]["comm_configs"]["s3_configs"]
    tree["client_configs"]["comm_configs"]["globus_compute_configs"] = {
        "s3_bucket": None,
        "s3_creds_file": None,
    }
    older = tmp_path / "server.yaml"
    older.write_text(yaml.safe_dump(tree))
    federation = load(older, MNIST / "clients.yaml")
    assert not federation.server_configs.comm_configs.s3_configs.enable_s3
    assert [client.comm_configs.s3_configs.enable_s3 for client in federation.clients] == [False, False]


@pytest.mark.parametrize("name", ["clients.yaml", "clients_globus.yaml"])
def test_the_client_files_have_the_published_keys(name: str) -> None:
    clients = read(name)["clients"]
    assert [client["client_id"] for client in clients] == ["Client1", "Client2"]
    for number, client in enumerate(clients):
        leaves = flat(client)
        assert leaves.pop("endpoint_id")
        assert leaves == {
            "client_id": f"Client{number + 1}",
            "train_configs.device": "cpu",
            "train_configs.logging_output_dirname": "./output",
            "train_configs.logging_output_filename": "result",
            "data_configs.dataset_path": "./resources/dataset/mnist_dataset.py",
            "data_configs.dataset_name": "get_mnist",
            "data_configs.dataset_kwargs.num_clients": 2,
            "data_configs.dataset_kwargs.client_id": number,
            "data_configs.dataset_kwargs.partition_strategy": "class_noniid",
            "data_configs.dataset_kwargs.visualization": number == 0,
        }


def test_the_default_clients_need_no_account_and_the_others_have_uuids() -> None:
    assert [client["endpoint_id"] for client in read("clients.yaml")["clients"]] == ["local", "local"]
    for client in read("clients_globus.yaml")["clients"]:
        uuid.UUID(client["endpoint_id"])


@pytest.mark.parametrize("name", sorted(path.name for path in MNIST.glob("*.yaml")))
def test_every_file_and_name_that_is_configured_exists(name: str) -> None:
    tree = read(name)
    leaves = [flat(part) for part in tree.get("clients", [tree])]
    for configured in leaves:
        for key, value in configured.items():
            if not key.endswith("_path"):
                continue
            source = EXAMPLES / value
            assert source.is_file(), f"{name}: {key}"
            defined = {
                node.name
                for node in ast.parse(source.read_text()).body
                if isinstance(node, ast.ClassDef | ast.FunctionDef)
            }
            assert configured[key.removesuffix("_path") + "_name"] in defined
