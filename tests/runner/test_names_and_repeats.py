"""What a client is called, and what its trainer reports, displaces nothing; a failing import runs once."""

from __future__ import annotations

import json
from pathlib import Path

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.events import Outcome
from appfl_gc.runner.journal import read_journal
from tests.runner.conftest import train
from tests.small_federation import SmallFederation

REPORTING = """\
from appfl.algorithm.trainer import VanillaTrainer


class Reporting(VanillaTrainer):
    def get_parameters(self):
        named = ("kind", "round", "client", "client_id", "blocking", "at", "steps", "sample_size", "queue_seconds")
        return super().get_parameters(), {name: -1.0 for name in named}
"""
IMPORTING = """\
import pathlib

from appfl.algorithm.trainer import VanillaTrainer


class Importing(VanillaTrainer):
    def train(self, **kwargs):
        with open({path!r}, "a") as file:
            file.write("tried\\n")
        import no_such_package
"""


def test_a_client_called_like_a_tensor_whose_trainer_reports_the_servers_own_columns(
    federation: SmallFederation,
) -> None:
    federation.files["reporting.py"] = REPORTING
    federation.train = {"trainer": "Reporting", "trainer_path": "./reporting.py"}
    federation.client = {0: {"client_id": "layers.0.weight"}, 1: {"client_id": "blocking"}}
    result = train(federation)
    assert result.outcome is Outcome.FINISHED, result.error
    rows = [json.loads(line) for line in (result.run_dir / "metrics.jsonl").read_text().splitlines()]
    mine = [row for row in rows if row["kind"] == "client"]
    assert [(row["round"], row["client"]) for row in mine] == [
        (round_, client) for round_ in (1, 2) for client in ("layers.0.weight", "blocking")
    ]
    assert all(row["at"] > 0 and row["steps"] == 5 and row["queue_seconds"] >= 0 for row in mine)
    assert all(row["blocking"] == row["client_id"] == -1.0 for row in mine)
    assert sum(row["kind"] == "round" for row in rows) == 2


def test_every_client_is_granted_a_place_of_its_own(federation: SmallFederation) -> None:
    federation.clients = 3
    # Past the limit of what travels inside a task.
    result = train(federation, "server_configs.control_configs.inline_limit_bytes=0")
    assert result.outcome is Outcome.FINISHED, result.error
    grants = [
        json.dumps(record.fields["grant"], sort_keys=True)
        for record in read_journal(result.run_dir / "journal.jsonl")
        if record.kind == "dispatch"
    ]
    assert len(grants) == len(set(grants)) == 6


def test_an_import_that_fails_in_user_code_is_told_once_and_tried_once(
    federation: SmallFederation, tmp_path: Path
) -> None:
    tried = tmp_path / "tried"
    federation.clients = 1
    federation.files["importing.py"] = IMPORTING.replace("{path!r}", repr(str(tried)))
    federation.train = {"trainer": "Importing", "trainer_path": "./importing.py"}
    result = train(federation)
    assert result.outcome is Outcome.FAILED
    assert result.error is not None
    assert result.error.error_class is ErrorClass.USER
    assert "no_such_package" in result.error.message
    assert tried.read_text().splitlines() == ["tried"]
