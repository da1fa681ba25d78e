from __future__ import annotations

import io
import json
from typing import Any

import pytest

from appfl_gc.protocol.measures import Timing
from appfl_gc.report.json_lines import JsonLines, plain_json
from appfl_gc.runner.events import ClientFailed, ClientTrained, Outcome, RunEvent
from tests.report.sample_run import BUG, Clock, finished, set_aside, started, whole_run


def objects_of(*events: RunEvent, debug: bool = False) -> list[dict[str, Any]]:
    stream = io.StringIO()
    display = JsonLines(stream, exit_code=lambda end: 42, debug=debug, clock=Clock())
    for event in events:
        display.on_event(event)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def test_every_event_is_one_object_with_its_name_and_fields() -> None:
    events = whole_run(rounds=1)
    objects = objects_of(*events)
    assert len(objects) == len(events)
    assert objects[0] == {
        "event": "run_started", "at": 0.0, "run_id": "run-1", "run_dir": "/data/output/run-1",
        "clients": ["A", "B"], "epochs": 1, "counts": "rounds", "model_bytes": 4_800_040, "parameters": 1_199_882,
        "rounds_done": 0, "updates_done": 0,
    }  # fmt: skip
    changed = next(line for line in objects if line["event"] == "client_changed")
    assert changed["state"] == "ready"
    row = next(line for line in objects if line["event"] == "client_trained")
    assert row["timing"] == {"queue": 1.0, "compute": 2.0, "transfer": 0.5, "train": 1.5}


def test_the_last_object_is_the_summary() -> None:
    last = objects_of(*whole_run(rounds=2))[-1]
    assert last["event"] == "run_finished"
    assert (last["outcome"], last["exit_code"], last["rounds"]) == ("finished", 42, 2)
    assert last["model_path"].endswith("model.safetensors")
    assert last["clients"]["A"]["updates"] == 2
    assert last["clients"]["A"]["mean_seconds"] == {
        "queue": 1.0,
        "compute": 2.0,
        "transfer": 0.5,
        "train": 1.5,
    }


def test_numbers_that_json_lacks_are_null() -> None:
    event = ClientTrained("A", 1, 1, 1, Timing(0, 0, 0, 0), {"val_loss": float("nan"), "other": float("inf")})
    assert objects_of(started(), event)[-1]["metrics"] == {"val_loss": None, "other": None}


@pytest.mark.parametrize("debug", [False, True])
def test_a_trace_is_there_with_debug_only(debug: bool) -> None:
    failed, _, last = objects_of(*set_aside("B"), finished(Outcome.FAILED, error=BUG), debug=debug)
    for line in (failed, last):
        assert ("trace" in line["error"]) is debug
        assert line["error"]["frames"] == ["dataset.py:12 in get_data"]


def test_a_line_break_in_a_text_does_not_break_the_line() -> None:
    event = ClientFailed("a\nb\u2028", 1, BUG, final=False)
    assert objects_of(event)[0]["client"] == "a\nb\u2028"


def test_a_run_that_does_not_finish_says_why() -> None:
    stream = io.StringIO()
    JsonLines(stream, exit_code=lambda end: 0, clock=Clock()).ended_by(
        2, [{"message": "wrong key", "line": 3}]
    )
    assert json.loads(stream.getvalue()) == {
        "event": "error", "at": 0.0, "exit_code": 2,
        "errors": [{"message": "wrong key", "line": 3}],
    }  # fmt: skip


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="set"):
        plain_json({"a": {1}})
