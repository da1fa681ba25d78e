"""What may change in a configuration while its run is interrupted, and what may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from appfl_gc.config.load import examine
from appfl_gc.runner.resume.changes import Change, ConfigurationChangedError, changes, describe, refuse
from tests.small_federation import SmallFederation

ENDPOINTS = [f"0123456{n}-89ab-4def-8123-456789abcdef" for n in range(2)]
Edit = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two clients at endpoints, with S3 and a secret in a source of configuration."""
    federation = SmallFederation(
        tmp_path,
        rounds=5,
        client={n: {"endpoint_id": endpoint} for n, endpoint in enumerate(ENDPOINTS)},
    )
    server, clients = federation.write()
    document = yaml.safe_load(server.read_text())
    document["client_configs"]["comm_configs"] = {
        "s3_configs": {
            "enable_s3": True,
            "s3_bucket": "models",
            "endpoint_url": "https://s3.example.org",
        }
    }
    server.write_text(yaml.safe_dump(document))
    return server, clients


def record(files: tuple[Path, Path]) -> dict[str, Any]:
    """What lies in the run directory: config.json, read back."""
    found = examine(*files)
    assert found.federation is not None, found.diagnostics
    loaded: dict[str, Any] = json.loads(json.dumps(found.federation.resolved(), default=str))
    return loaded


def changed(
    files: tuple[Path, Path], edit: Edit, done: int = 3, overrides: tuple[str, ...] = ()
) -> list[Change]:
    """Record, edit both documents, and compare."""
    before = record(files)
    server, clients = (yaml.safe_load(file.read_text()) for file in files)
    edit(server, clients)
    for file, document in zip(files, (server, clients), strict=True):
        file.write_text(yaml.safe_dump(document))
    now = examine(*files, overrides=overrides)
    assert now.federation is not None, now.diagnostics
    return changes(before, now.federation, done, views=now.views)


def test_an_unchanged_configuration_has_no_changes(files: tuple[Path, Path]) -> None:
    assert changed(files, lambda server, clients: None) == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda s, c: s["server_configs"].update(fault_tolerance_configs={"retries": 7}),
        lambda s, c: s["server_configs"].update(control_configs={"results": "poll", "slots": 2}),
        lambda s, c: s["server_configs"].update(num_global_epochs=3),
        lambda s, c: s["server_configs"].update(num_global_epochs=9, logging_output_filename="other"),
        lambda s, c: c["clients"][0].update(endpoint_id="f1234567-89ab-4def-8123-456789abcdef"),
        lambda s, c: c["clients"][1].update(user_endpoint_config={"queue": "debug"}, credentials="OTHER"),
        lambda s, c: s["client_configs"]["comm_configs"]["s3_configs"].update(
            endpoint_url="https://moved.example.org", expected_queue_wait_seconds=9.0
        ),
        lambda s, c: s["client_configs"]["train_configs"].update(logging_output_dirname="./logs"),
        lambda s, c: s["client_configs"]["train_configs"].update(
            on_walltime="partial", walltime_seconds=600.0
        ),
        lambda s, c: c["clients"][0].update(experiment_id="read by nobody"),
    ],
)
def test_what_keeps_the_bits_may_change(files: tuple[Path, Path], edit: Edit) -> None:
    found = changed(files, edit)
    assert found
    assert all(change.may_change for change in found)
    refuse(found)


@pytest.mark.parametrize(
    ("edit", "key", "before", "now"),
    [
        (
            lambda s, c: s["server_configs"].update(num_global_epochs=2),
            "server_configs.num_global_epochs",
            5,
            2,
        ),
        (lambda s, c: s["server_configs"].update(device="cuda"), "server_configs.device", "cpu", "cuda"),
        (
            lambda s, c: s["server_configs"]["aggregator_kwargs"].update(client_weights_mode="equal"),
            "server_configs.aggregator_kwargs.client_weights_mode",
            "sample_size",
            "equal",
        ),
        (
            lambda s, c: s["client_configs"]["train_configs"].update(num_local_steps=6),
            "train_configs.num_local_steps",
            5,
            6,
        ),
        (
            lambda s, c: s["client_configs"]["train_configs"]["optim_args"].update(momentum=0.9),
            "train_configs.optim_args.momentum",
            None,
            0.9,
        ),
        (lambda s, c: s["client_configs"]["model_configs"].update(seed=8), "model_configs.seed", 7, 8),
        (
            lambda s, c: s["client_configs"]["comm_configs"]["s3_configs"].update(s3_bucket="other"),
            "comm_configs.s3_configs.s3_bucket",
            "models",
            "other",
        ),
        (
            lambda s, c: c["clients"][1]["data_configs"]["dataset_kwargs"].update(samples=1000),
            "data_configs.dataset_kwargs.samples",
            80,
            1000,
        ),
        (lambda s, c: c["clients"][0].update(endpoint_id="local"), "endpoint_id", ENDPOINTS[0], "local"),
        (lambda s, c: c["clients"].reverse(), "clients", ["Client1", "Client2"], ["Client2", "Client1"]),
    ],
)
def test_everything_else_is_refused(
    files: tuple[Path, Path], edit: Edit, key: str, before: object, now: object
) -> None:
    found = [change for change in changed(files, edit) if not change.may_change]
    assert {(change.key, change.before, change.now) for change in _hashable(found)} >= {
        (key, str(before), str(now))
    }
    with pytest.raises(ConfigurationChangedError) as refused:
        refuse(found)
    assert key in refused.value.message
    assert refused.value.hint


def _hashable(found: list[Change]) -> list[Change]:
    return [Change(c.owner, c.key, str(c.before), str(c.now), c.may_change) for c in found]


def test_the_refusal_names_line_key_and_both_values_once_for_all_clients(files: tuple[Path, Path]) -> None:
    found = changed(
        files,
        lambda s, c: s["client_configs"]["train_configs"].update(num_local_steps=6),
        overrides=("server_configs.device=cuda",),
    )
    server = files[0]
    line = next(n for n, text in enumerate(server.read_text().splitlines(), 1) if "num_local_steps" in text)
    assert describe(found) == [
        "command line: server_configs.device: was 'cpu', is 'cuda'.",
        f"{server}:{line}: clients Client1, Client2: train_configs.num_local_steps: was 5, is 6.",
    ]


def test_a_source_file_counts_by_its_text_and_not_by_its_place(files: tuple[Path, Path]) -> None:
    before = record(files)
    directory = files[0].parent
    (directory / "moved").mkdir()
    (directory / "model.py").rename(directory / "moved" / "net.py")
    document = yaml.safe_load(files[0].read_text())
    document["client_configs"]["model_configs"]["model_path"] = "./moved/net.py"
    files[0].write_text(yaml.safe_dump(document))

    def compare() -> list[Change]:
        now = examine(*files)
        assert now.federation is not None
        return changes(before, now.federation, 3, views=now.views)

    assert all(change.may_change for change in compare())
    with (directory / "moved" / "net.py").open("a") as file:
        file.write("# a comment\n")
    refused = [change for change in compare() if not change.may_change]
    assert {(change.owner, change.key) for change in refused} == {
        ("Client1", "the model source"),
        ("Client2", "the model source"),
    }
    assert "net.py: clients Client1, Client2: the model source: was 'sha256 " in describe(refused)[0]


def test_secrets_are_neither_compared_nor_shown(files: tuple[Path, Path]) -> None:
    def with_key(secret: str) -> Edit:
        return lambda s, c: s["client_configs"].update(
            user_endpoint_config={"api_key": secret, "queue": secret[0]}
        )

    assert changed(files, with_key("first")) != []
    found = changed(files, with_key("second"))
    assert [change.key for change in found] == ["user_endpoint_config.queue"] * 2
    assert "second" not in " ".join(describe(found))


def test_a_key_that_a_newer_program_has_is_no_change(files: tuple[Path, Path]) -> None:
    before = record(files)
    del before["clients"][0]["train_configs"]["train_data_shuffle"]
    now = examine(*files)
    assert now.federation is not None
    assert changes(before, now.federation, 0, same_program=False) == []
    assert [c.key for c in changes(before, now.federation, 0)] == ["train_configs.train_data_shuffle"]
