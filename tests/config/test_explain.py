from __future__ import annotations

from appfl_gc.config.explain import as_text, explain_all
from tests.config.conftest import Project


def test_every_value_says_where_it_comes_from(project: Project) -> None:
    project.change_clients("    data_configs:", "    train_configs: {train_batch_size: 3}\n    data_configs:")
    views = explain_all(project.examine(overrides=["server_configs.device=auto"], local=True).views)
    assert list(views) == ["server", "client Client1", "client Client2"]
    one = {row.key: (row.value, row.origin.rpartition("/")[2]) for row in views["client Client1"]}
    assert one["train_configs.num_local_steps"] == (5, "server.yaml:5")
    assert one["train_configs.train_batch_size"] == (3, "clients.yaml:4")
    assert one["train_configs.val_batch_size"] == (32, "default")
    assert one["endpoint_id"] == ("local", "--local")
    server = {row.key: (row.value, row.origin.rpartition("/")[2]) for row in views["server"]}
    assert server["device"] == ("auto", "command line")
    assert server["aggregator_kwargs.client_weights_mode"] == ("equal", "server.yaml:23")


def test_old_names_keep_their_place(project: Project) -> None:
    project.change_server("  num_clients: 2\n", "  scheduler_kwargs: {num_clients: 2}\n")
    rows = {row.key: row.origin for row in explain_all(project.examine().views)["server"]}
    assert rows["num_clients"].endswith("server.yaml:19")


def test_secrets_are_not_shown(project: Project) -> None:
    project.change_server("num_classes: 10", "num_classes: 10\n      token: hush")
    views = explain_all(project.examine().views)
    assert "hush" not in "\n".join(as_text(title, rows) for title, rows in views.items())
