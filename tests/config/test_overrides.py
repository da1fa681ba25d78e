from __future__ import annotations

import pytest

from tests.config.conftest import Project


def test_the_command_line_wins(project: Project) -> None:
    federation = project.load(
        overrides=[
            "server_configs.num_global_epochs=7",
            "client_configs.train_configs.optim_args.lr=1e-2",
            "clients[1].train_configs.train_batch_size=4",
            "clients.0.client_id=First",
            "server_configs.control_configs={slots: 1}",
        ]
    )
    assert federation.server_configs.num_global_epochs == 7
    assert federation.server_configs.control_configs.slots == 1
    assert [client.client_id for client in federation.clients] == ["First", "Client2"]
    assert [client.train_configs.train_batch_size for client in federation.clients] == [32, 4]
    assert federation.clients[0].train_configs.optim_args == {"lr": 0.01}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server_configs.num_global_epochs", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("server_config.device=cpu", "`server_configs`"),
        ("server_configs.num_global_epochs=many", "a whole number, found 'many'"),
        ("server_configs.num_global_epoch=3", "`num_global_epochs`"),
        ("clients[5].client_id=x", "no item 5"),
        ("server_configs.device.kind=x", "text, found a block"),
        ("server_configs.num_clients.kind=x", "not a block"),
        ("server_configs.device=[1", "not YAML"),
    ],
)
def test_mistakes_are_reported_at_the_command_line(project: Project, text: str, words: str) -> None:
    found = project.only(overrides=[text])
    assert found.file == "command line"
    assert found.line is None
    assert words in f"{found.message} {found.hint}"


def test_an_override_silences_the_value_it_replaces(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: five")
    assert project.found(overrides=["client_configs.train_configs.num_local_steps=5"]) == []
