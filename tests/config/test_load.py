from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from appfl_gc.config import ConfigError, Severity, check, load
from tests.config.conftest import CLIENTS, Project, place

EXAMPLES = Path(__file__).parents[2] / "examples" / "resources" / "config_gc" / "mnist"
UUIDS = ("4f53131b-e59d-465f-9153-efe9b02d9f3e", "98b30895-3677-432b-8e8c-da72b093c565")


def test_a_valid_configuration_has_no_findings(project: Project) -> None:
    assert project.found(strict=True) == []
    federation = project.load()
    assert [client.client_id for client in federation.clients] == ["Client1", "Client2"]
    assert federation.server_configs.num_global_epochs == 2
    assert federation.warnings == ()
    assert federation.server_path == project.directory / "server.yaml"


# Those of ProxyStore belong together: a client can't have S3 and ProxyStore.
PAIRS = [
    (server.name, clients.name)
    for server in sorted(EXAMPLES.glob("server_fedavg*.yaml"))
    for clients in sorted(EXAMPLES.glob("clients*.yaml"))
    if (server.stem, clients.stem) != ("server_fedavg_s3", "clients_proxystore")
]


@pytest.mark.parametrize(("server", "clients"), PAIRS)
def test_the_shipped_examples_are_valid(
    server: str, clients: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    number = len(yaml.safe_load((EXAMPLES / clients).read_text())["clients"])
    overrides = [f"server_configs.num_clients={number}"]
    found = check(EXAMPLES / server, EXAMPLES / clients, strict=True, overrides=overrides)
    assert [item for item in found if item.severity is not Severity.NOTE] == []


def test_loading_twice_gives_the_same(project: Project) -> None:
    assert project.load() == project.load()


def test_nothing_can_be_changed(project: Project) -> None:
    federation = project.load()
    client: Any = federation.clients[0]
    with pytest.raises(ValidationError, match="frozen"):
        client.train_configs.device = "cuda"
    with pytest.raises(AttributeError):
        client.client_id = "other"
    for change in (
        lambda kwargs: kwargs.update(lr=1),
        lambda kwargs: kwargs.__setitem__("lr", 1),
        lambda kwargs: kwargs.pop("lr"),
        lambda kwargs: kwargs.clear(),
        lambda kwargs: kwargs.__delitem__("lr"),
        lambda kwargs: kwargs.setdefault("x", 1),
        lambda kwargs: kwargs.__ior__({"x": 1}),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change(client.train_configs.optim_args)
    with pytest.raises(TypeError):
        client.sources["model"] = None
    client.site_config()["train_configs"]["optim_args"]["lr"] = 3
    federation.aggregator_kwargs()["client_weights_mode"] = "other"
    assert federation == project.load()


def test_kwargs_can_be_copied_pickled_and_written_as_json(project: Project) -> None:
    kwargs = project.load().clients[0].train_configs.optim_args
    for same in (copy.deepcopy(kwargs), pickle.loads(pickle.dumps(kwargs)), json.loads(json.dumps(kwargs))):
        assert same == {"lr": 0.001}


def test_what_travels_to_a_site_is_json_without_paths(project: Project) -> None:
    config = project.load().clients[1].site_config()
    assert json.loads(json.dumps(config)) == config
    assert set(config) == {"client_id", "train_configs", "model_configs", "data_configs"}
    assert config["client_id"] == "Client2"
    assert config["data_configs"] == {"dataset_name": "get_data", "dataset_kwargs": {"client_id": 1}}
    assert config["model_configs"] == {"model_name": "CNN", "model_kwargs": {"num_classes": 10}, "seed": 42}
    train = config["train_configs"]
    assert isinstance(train, dict)
    assert not [key for key in train if key.endswith("_path")]
    assert (train["num_local_steps"], train["train_batch_size"], train["device"]) == (5, 32, "cpu")
    assert "mu" not in train


def test_resolved_is_json_and_holds_no_secret(project: Project) -> None:
    project.change_server(
        "server_configs:\n",
        "  comm_configs:\n    proxystore_configs:\n      connector_configs:\n        password: hush1\n"
        "        address: redis://me:hush2@host\nserver_configs:\n",
    )
    project.change_clients("client_id: 0", "client_id: 0\n        api_token: hush3\n", 1)
    project.write("dataset.py", "def get_data(client_id, api_token=None):\n    text = 'source'\n")
    result = project.examine()
    assert result.federation is not None
    text = json.dumps(result.federation.resolved())
    assert "hush" not in text
    assert "redis://" in text
    assert "source'" not in text
    assert json.loads(text)["clients"][0]["data_configs"]["dataset_kwargs"]["client_id"] == 0
    model = result.federation.clients[0].sources["model"]
    assert json.loads(text)["sources"]["Client1.model"]["sha256"] == model.sha256
    assert result.federation.clients[0].data_configs.dataset_kwargs["api_token"] == "hush3"


def test_load_raises_all_errors_at_once(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: five")
    project.change_server("num_clients: 2", "num_clients: 3")
    with pytest.raises(ConfigError) as caught:
        project.load()
    assert len(caught.value.diagnostics) == 2
    assert "2 errors" in str(caught.value)
    assert "server.yaml:5: error: client_configs.train_configs.num_local_steps" in str(caught.value)


def test_num_clients_must_be_the_length_of_the_list(project: Project) -> None:
    project.change_server("num_clients: 2", "num_clients: 3")
    found = project.only()
    assert place(found) == {"file": "server.yaml", "line": 19, "key": "server_configs.num_clients"}
    assert "3" in found.message
    assert "2 clients" in found.message


def test_client_ids_must_differ(project: Project) -> None:
    project.change_clients('"Client2"', '"Client1"')
    found = project.only()
    assert place(found) == {"file": "clients.yaml", "line": 10, "key": "clients[1].client_id"}
    assert "clients.yaml:3" in found.message


def test_a_client_without_id_is_called_like_its_endpoint(project: Project) -> None:
    project.change_clients('endpoint_id: local\n    client_id: "Client1"', f"endpoint_id: {UUIDS[0]}")
    assert project.load().clients[0].client_id == UUIDS[0]
    assert project.load(local=True).clients[0].client_id == UUIDS[0]
    project.clients = CLIENTS.replace('    client_id: "Client1"\n', "").replace(
        '    client_id: "Client2"\n', ""
    )
    assert "'local' is taken" in project.only().message


def test_a_number_as_client_id(project: Project) -> None:
    project.change_clients('"Client1"', "7")
    assert project.load().clients[0].client_id == "7"


@pytest.mark.parametrize("endpoint", ["Local", "my-endpoint", "123"])
def test_an_endpoint_is_local_or_a_uuid(project: Project, endpoint: str) -> None:
    project.change_clients("endpoint_id: local", f"endpoint_id: '{endpoint}'")
    found = project.only()
    assert found.severity is Severity.ERROR
    assert "UUID" in found.message


def test_remote_endpoints_are_valid(project: Project) -> None:
    for uuid in UUIDS:
        project.change_clients("endpoint_id: local", f"endpoint_id: {uuid}")
    assert project.found(strict=True) == []
    assert [client.endpoint_id for client in project.load().clients] == list(UUIDS)


def test_settings_of_multi_user_endpoints_are_accepted(project: Project) -> None:
    project.change_clients(
        "    data_configs:", "    user_endpoint_config: {account: x}\n    credentials: me\n    data_configs:"
    )
    assert [found.severity for found in project.found(strict=True)] == [Severity.NOTE, Severity.NOTE]
    settings = project.load(strict=True).clients[0].settings
    assert settings.user_endpoint_config == {"account": "x"}
    assert settings.credentials == "me"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clients: []\n", "empty"),
        ("clients: {a: 1}\n", "a list"),
        ("clients:\n- x\n", "block of keys for each"),
    ],
)
def test_lists_of_clients_that_are_none(project: Project, text: str, words: str) -> None:
    project.clients = text
    assert words in project.only().message


def test_both_files_are_read_before_giving_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert len(caught.value.diagnostics) == 2


def test_the_published_sample_of_another_algorithm_is_valid(project: Project) -> None:
    project.change_server("SyncScheduler", "AsyncScheduler")
    project.change_server("FedAvgAggregator", "FedAsyncAggregator")
    project.change_server(
        "    client_weights_mode: equal\n",
        "    client_weights_mode: equal\n    staleness_fn: polynomial\n    staleness_fn_kwargs: {a: 0.5}\n"
        "    alpha: 0.9\n    gradient_based: True\n",
    )
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    send_gradient: True")
    assert project.found() == []


@pytest.mark.parametrize(
    ("block", "severity", "words"),
    [
        ("train_configs: {send_gradient: True}", Severity.ERROR, "differ in `send_gradient`"),
        ("model_configs: {seed: 3}", Severity.WARNING, "seed of client Client1 counts"),
        ("model_configs: {model_kwargs: {num_channel: 3}}", Severity.WARNING, "not that of client Client1"),
    ],
)
def test_clients_agree_on_what_they_train(
    project: Project, block: str, severity: Severity, words: str
) -> None:
    project.change_clients('client_id: "Client2"', f'client_id: "Client2"\n    {block}')
    found = project.only()
    assert (found.severity, found.line) == (severity, 11)
    assert words in found.message
