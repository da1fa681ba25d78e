from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

from hypothesis import given, reject
from hypothesis import strategies as st
from omegaconf import OmegaConf

from appfl_gc.config.merging import merge
from tests.config.conftest import Project, place

KEYS = st.sampled_from(["a", "b", "c"])
SCALARS = st.none() | st.booleans() | st.integers(0, 9) | st.text("xyz", max_size=2)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
BLOCKS = st.dictionaries(KEYS, TREES, max_size=3)


@given(BLOCKS, BLOCKS)
def test_merges_as_omegaconf_does(under: dict[str, Any], over: dict[str, Any]) -> None:
    try:
        expected = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(under), OmegaConf.create(over)))
    except TypeError:
        reject()  # a block over a list, which OmegaConf refuses and the schema reports
    before = copy.deepcopy((under, over))
    assert merge(under, over) == expected
    assert (under, over) == before


def test_a_client_wins_over_what_all_share(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: 5\n    train_batch_size: 64")
    project.change_clients(
        "    data_configs:", "    train_configs:\n      train_batch_size: 8\n    data_configs:"
    )
    one, two = project.load().clients
    assert (one.train_configs.train_batch_size, two.train_configs.train_batch_size) == (8, 64)
    assert one.train_configs.num_local_steps == 5


def test_lists_are_replaced(project: Project) -> None:
    project.change_server("lr: 0.001", "lr: 0.001\n      betas: [0.9, 0.99]")
    project.change_clients(
        "    data_configs:", "    train_configs: {optim_args: {betas: [0.5]}}\n    data_configs:"
    )
    one, two = project.load().clients
    assert one.site_config()["train_configs"]["optim_args"] == {"lr": 0.001, "betas": [0.5]}
    assert two.site_config()["train_configs"]["optim_args"] == {"lr": 0.001, "betas": [0.9, 0.99]}


def test_the_server_takes_the_clients_comm_configs_over_its_own(project: Project) -> None:
    project.change_server(
        "server_configs:\n",
        "  comm_configs:\n    s3_configs: {s3_bucket: theirs}\nserver_configs:\n"
        "  comm_configs:\n    s3_configs: {s3_bucket: ours, s3_temp_dir: /tmp/x}\n",
    )
    federation = project.load()
    assert federation.server_configs.comm_configs.s3_configs.s3_bucket == "theirs"
    assert federation.server_configs.comm_configs.s3_configs.s3_temp_dir == "/tmp/x"
    assert federation.clients[0].comm_configs.s3_configs.s3_temp_dir is None


def test_interpolation_finds_both_files_and_the_merged_values(project: Project) -> None:
    project.change_server(
        "num_local_steps: 5",
        "num_local_steps: ${server_configs.num_global_epochs}\n    train_batch_size: 7\n"
        "    val_batch_size: ${.train_batch_size}",
    )
    project.change_clients("    data_configs:", "    train_configs: {train_batch_size: 9}\n    data_configs:")
    project.change_clients("client_id: 1\n", "client_id: ${server_configs.num_clients}\n")
    one, two = project.load().clients
    assert one.train_configs.num_local_steps == 2
    assert (one.train_configs.val_batch_size, two.train_configs.val_batch_size) == (9, 7)
    assert two.data_configs.dataset_kwargs["client_id"] == 2


def test_interpolation_of_what_is_not_there(project: Project) -> None:
    project.change_server("num_local_steps: 5", "num_local_steps: ${server_configs.nope}")
    found = project.found()
    assert place(found[0]) == {
        "file": "server.yaml",
        "line": 5,
        "key": "client_configs.train_configs.num_local_steps",
    }
    assert "nope" in found[0].message


def test_interpolation_that_contains_itself(project: Project) -> None:
    project.change_server("lr: 0.001", "lr: ${client_configs.train_configs.optim_args.lr}")
    assert any("interpolation" in found.message for found in project.found())
    project.server = project.server.replace(
        "lr: ${client_configs.train_configs.optim_args.lr}", "deep: ${client_configs.train_configs}"
    )
    assert any("interpolation" in found.message for found in project.found())


def test_interpolation_that_is_malformed(project: Project) -> None:
    project.change_server("num_classes: 10", "num_classes: ${oc.env")
    found = project.found()
    assert "not an interpolation" in found[0].message
    assert (found[0].line, found[0].key) == (17, "client_configs.model_configs.model_kwargs.num_classes")


def test_an_explosion_of_interpolations_ends(project: Project) -> None:
    lines = ["num_classes: 10", "a: [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for before, name in pairwise("abcdefghi"):
        item = f"'${{..{before}}}'"
        lines.append(f"{name}: [{', '.join([item] * 9)}]")
    project.change_server("num_classes: 10", "\n      ".join(lines))
    assert any("too many values" in found.message for found in project.found())
