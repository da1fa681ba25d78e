"""Broken and hostile clients on real workers: each is set aside with the reason, and the others lose nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.protocol.wire import MAX_LOG_LINE, MAX_LOG_LINES
from appfl_gc.runner.api import RunResult, run
from appfl_gc.runner.events import Outcome
from appfl_gc.site import log as site_log
from tests.faults.hostile_files import DATASET, TRAINER
from tests.small_federation import SmallFederation

REFUSED, PROTOCOL, USER = ErrorClass.UPDATE_REFUSED, ErrorClass.PROTOCOL, ErrorClass.USER
HARMLESS = ["", "endless prints", "endless logs", "odd metrics"]
REPLAYED = "replays its reply of round 1"
BROKEN = {
    "not finite": (REFUSED, r"NaN stands in tensor 'layers\.0\.weight'"),
    "another shape": (REFUSED, r"'layers\.0\.weight' is float32 of shape \[8, 16\]; expected .*\[16, 8\]"),
    "another dtype": (REFUSED, r"'layers\.0\.weight' is float64"),
    "a tensor less": (REFUSED, r"'layers\.0\.weight' is missing"),
    "a tensor more": (REFUSED, r"'extra' .* is not part of the model"),
    "absurd norm": (REFUSED, r"norm .*, above max_update_norm 1000"),
}
FORGED = {
    "another nonce": (PROTOCOL, "answers another call"),
    "another run": (PROTOCOL, "answers another call"),
    "another client": (PROTOCOL, "answers another call"),
    REPLAYED: (PROTOCOL, "answers another call"),
    "another wire version": (PROTOCOL, "wire version 99"),
    "no reply": (PROTOCOL, "The reply is str, not an object"),
    "forgotten without end": (PROTOCOL, "error class forgotten, which no site can know"),
    "many metrics": (PROTOCOL, "more than 20000 values"),
    "deep metrics": (PROTOCOL, "nests deeper than 32 levels"),
    "examples": (
        REFUSED,
        r"1,000,000,000,000,000 training examples, more than .*max_sample_size allows \(1,000,000\)",
    ),
    "negative examples": (PROTOCOL, "The sample size is negative"),
    "payload of another": (PROTOCOL, "a payload that is not the one it was to make"),
    "no payload": (PROTOCOL, "The reply has no update"),
    "pickle": (REFUSED, "header"),
    "other bytes": (ErrorClass.TRANSFER, "other bytes than were sent"),
}


def hostile(directory: Path, attacks: Sequence[str]) -> SmallFederation:
    """A federation with a client for each of ``attacks``; "" is none."""
    federation = SmallFederation(directory, clients=len(attacks), dataset=DATASET)
    federation.files["broken.py"] = TRAINER
    federation.train |= {"trainer": "Broken", "trainer_path": "./broken.py", "num_threads": 1}
    federation.server["fault_tolerance_configs"] = {
        "quorum": len(HARMLESS),
        "retries": 0,
        "max_update_norm": 1000.0,
        "max_sample_size": 1_000_000,
    }
    for number, attack in enumerate(attacks):
        kwargs = {"client_id": number, "attack": attack, "canary": str(directory / "canary")}
        forged = attack in FORGED or attack == "odd metrics"
        federation.client[number] = {
            "data_configs": {
                "dataset_path": "./dataset.py",
                "dataset_name": "load",
                "dataset_kwargs": {**kwargs, "forged": forged},
            }
        }
    return federation


ATTACKS = [*HARMLESS, REPLAYED, *BROKEN, *(attack for attack in FORGED if attack != REPLAYED)]


def name_of(attack: str) -> str:
    return f"Client{ATTACKS.index(attack) + 1}"


def bits(result: RunResult) -> bytes:
    assert result.model_path is not None
    return result.model_path.read_bytes()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """One run with every kind of client."""
    return run(*hostile(tmp_path_factory.mktemp("attacked"), ATTACKS).write())


@pytest.mark.parametrize("attack", [*BROKEN, *FORGED])
def test_the_client_is_set_aside_with_the_reason(attacked: RunResult, attack: str) -> None:
    error_class, reason = (BROKEN | FORGED)[attack]
    client = name_of(attack)
    error = attacked.set_aside[client]
    assert error.error_class is error_class, error
    assert error.message.startswith(f"Client {client}: ")
    assert re.search(reason, error.message), error.message


def test_the_run_goes_on_as_if_they_had_never_been_there(attacked: RunResult, tmp_path: Path) -> None:
    """Compared with a run of honest clients, of whom one fails in round 2 as the replayed reply does."""
    assert attacked.outcome is Outcome.PARTIAL
    assert attacked.rounds == 2
    assert set(attacked.set_aside) == {name_of(attack) for attack in BROKEN | FORGED}
    peaceful = run(*hostile(tmp_path, [*[""] * len(HARMLESS), "fails in round 2"]).write())
    assert (peaceful.outcome, peaceful.rounds) == (Outcome.PARTIAL, 2)
    assert bits(attacked) == bits(peaceful)


def test_nothing_that_was_sent_is_executed(attacked: RunResult) -> None:
    assert not (attacked.run_dir.parents[1] / "canary").exists()


def test_who_never_stops_talking_is_heard_up_to_a_point(attacked: RunResult) -> None:
    for attack in ("endless prints", "endless logs"):
        log = attacked.run_dir / "clients" / f"{name_of(attack)}.log"
        # The greeting and two rounds.
        assert log.stat().st_size <= 3 * MAX_LOG_LINES * (MAX_LOG_LINE + 1)
        assert "more" in log.read_text().splitlines()[-1]
    written = list(attacked.run_dir.rglob("result_*.txt"))
    assert len(written) >= len(ATTACKS)
    assert all(path.stat().st_size < site_log.MAX_FILE for path in written)


def test_odd_metrics_are_left_out_and_said(attacked: RunResult) -> None:
    client = name_of("odd metrics")
    rows = [json.loads(line) for line in (attacked.run_dir / "metrics.jsonl").read_text().splitlines()]
    [first, _] = [row for row in rows if row.get("client") == client]
    assert first["fine"] == 1.5
    assert not {"huge", "text", "\x1b[2J"} & set(first)
    assert (
        f"Client {client}: huge, text is not a finite number" in (attacked.run_dir / "server.log").read_text()
    )


def test_a_client_that_claims_too_many_examples_is_told_before_training(tmp_path: Path) -> None:
    """The number of its greeting would weigh against every other client's."""
    federation = SmallFederation(tmp_path, clients=1)
    federation.server["fault_tolerance_configs"] = {"max_sample_size": 50}
    result = run(*federation.write())
    assert (result.outcome, result.rounds) == (Outcome.FAILED, 0)
    assert result.error is not None
    assert result.error.message.startswith("Client Client1: The client says that it has 64 training examples")
