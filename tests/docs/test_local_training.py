"""The page on local training: its configurations load without a word, and its keys are the schema's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from appfl_gc.config.load import check
from appfl_gc.config.schema.train_configs import ResidualBalancing, TrainConfigs
from tests.docs.page import ROOT, read
from tests.small_federation import SmallFederation

PAGE = read(ROOT / "docs" / "algorithms" / "local-training.md")
SNIPPETS = [yaml.safe_load(block.text) for block in PAGE.blocks if block.language == "yaml"]


@pytest.mark.parametrize(
    "snippet", SNIPPETS, ids=[s["client_configs"]["train_configs"]["trainer"] for s in SNIPPETS]
)
def test_each_configuration_is_accepted(snippet: dict[str, Any], tmp_path: Path) -> None:
    server = {**snippet.get("server_configs", {}), "aggregator_kwargs": {}}
    federation = SmallFederation(tmp_path, train=snippet["client_configs"]["train_configs"], server=server)
    server, clients = federation.write()
    assert check(server, clients) == ()


def test_the_tables_name_keys_that_there_are() -> None:
    names = re.findall(r"^\| `([\w.]+)`", PAGE.prose, re.MULTILINE)
    keys = {
        *TrainConfigs.model_fields,
        *(f"residual_balancing.{name}" for name in ResidualBalancing.model_fields),
    }
    for name in names:
        assert name in keys or name.startswith("optim_args.") or name.endswith("Trainer"), name
