"""A run that is over, as far as a simulation looks at it."""

from __future__ import annotations

import json
from pathlib import Path

from appfl_gc.config.load import load
from appfl_gc.protocol.schedule import Started
from appfl_gc.runner.journal import Journal
from tests.simulation.test_past_run import arrived, write
from tests.small_federation import SmallFederation


def past_run(directory: Path, silent: int = 0) -> Path:
    """The directory of a run of two clients, one of which has settings of its own; more are ``silent``.

    It ended before its four rounds were done, and none of the user's files is there any more.
    """
    federation = SmallFederation(
        directory / "project",
        clients=2 + silent,
        client={1: {"train_configs": {"num_local_steps": 9}}},
        rounds=4,
    )
    run = directory / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps(load(*federation.write()).resolved()))
    with Journal(run / "journal.jsonl") as journal:
        write(journal, 10.0, Started(tuple(f"Client{number}" for number in range(1, 3 + silent))))
        write(journal, 11.0, arrived("Client1", 1, train=2.0))
        write(journal, 12.0, arrived("Client2", 1, train=4.0))
    for name in ("model.py", "dataset.py", "metric.py", "server.yaml"):
        (directory / "project" / name).unlink()
    return run
