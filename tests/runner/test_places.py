"""Where a run's payloads lie stays known through every process of the run, for whoever cleans up after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.runner.leftovers import places
from appfl_gc.runner.route_setup import note_places
from appfl_gc.runner.run_directory import RunDirectory


def test_a_resumed_run_remembers_the_stores_of_its_earlier_processes(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.journal.touch()
    first = {"connector_type": "FileConnector", "connector_configs": {"store_dir": "/a"}, "site_configs": {}}
    second = {**first, "connector_configs": {"store_dir": "/b"}}
    for noted in ([first], [first, second], [second]):
        note_places(directory, {"proxystore": noted})  # type: ignore[dict-item]
    assert places(tmp_path) == ([], [first, second])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"proxystore": 3}'])
def test_a_damaged_list_is_replaced(tmp_path: Path, content: str) -> None:
    directory = RunDirectory(tmp_path)
    directory.journal.touch()
    (tmp_path / "stores.json").write_text(content)
    place = {"connector_type": "FileConnector", "connector_configs": {"store_dir": "/a"}, "site_configs": {}}
    note_places(directory, {"proxystore": [place]})  # type: ignore[dict-item]
    assert places(tmp_path) == ([], [place])
