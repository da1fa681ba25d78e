from __future__ import annotations

import time

import pytest

from appfl_gc.control.globus_compute.endpoints.config_schema import Misfit, check_configs
from appfl_gc.protocol.wire import Json

SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "account": {"type": "string"},
        "queue": {"enum": ["debug", "prod"]},
        "walltime": {"type": "string", "pattern": r"^\d\d:\d\d:\d\d$"},
        "api_key": {"type": "integer"},
    },
    "required": ["account"],
    "additionalProperties": False,
}


def misfits(config: dict[str, Json], schema: dict[str, Json] | None = SCHEMA) -> tuple[Misfit, ...]:
    (answer,) = check_configs([(schema, config)])
    assert answer.unchecked == ""
    return answer.misfits


def test_what_fits_passes() -> None:
    assert misfits({"account": "abc", "queue": "prod", "walltime": "00:30:00"}) == ()


def test_without_a_schema_only_reserved_names_are_refused() -> None:
    assert misfits({"anything": 1}, None) == ()
    assert [misfit.path for misfit in misfits({"user_runtime": {}}, None)] == [("user_runtime",)]


def test_what_a_ready_block_leaves_to_fill_in_is_a_misfit() -> None:
    (found,) = misfits({"account": "<your ALCF project>", "worker_init": "sort < a > b"}, None)
    assert found.path == ("account",) and "<your ALCF project>" in found.message


@pytest.mark.parametrize(
    ("config", "path", "words"),
    [
        ({}, (), "lacks `account`"),
        ({"account": "a", "walltime": 1800}, ("walltime",), "type string; found 1800"),
        ({"account": "a", "walltime": "30"}, ("walltime",), "of the form"),
        ({"account": "a", "queue": "fast"}, ("queue",), 'one of "debug", "prod"'),
        ({"account": "a", "que": "prod"}, ("que",), "Did you mean `queue`?"),
    ],
)
def test_a_misfit_names_its_key_and_what_was_expected(
    config: dict[str, Json], path: tuple[str, ...], words: str
) -> None:
    (found,) = misfits(config)
    assert found.path == path
    assert words in found.message


def test_the_value_of_a_secret_is_not_shown() -> None:
    (found,) = misfits({"account": "a", "api_key": "hunter2"})
    assert "hunter2" not in found.message


def test_a_hostile_schema_costs_its_own_check_only() -> None:
    began = time.monotonic()
    endless: dict[str, Json] = {"properties": {"a": {"pattern": "^(a+)+$"}}}
    elsewhere: dict[str, Json] = {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema"}}}
    itself: dict[str, Json] = {"$ref": "#"}
    answers = check_configs(
        [
            (SCHEMA, {}),
            (elsewhere, {"a": 1}),
            (itself, {"a": 1}),
            ({"type": "banana"}, {}),
            (endless, {"a": "a" * 40 + "b"}),
        ],
        seconds=5,
    )
    assert time.monotonic() - began < 15
    assert len(answers[0].misfits) == 1
    assert [bool(answer.unchecked) for answer in answers] == [False, True, True, True, True]
    assert "outside" in answers[1].unchecked and "not a valid one" in answers[3].unchecked


def test_control_characters_of_a_schema_are_not_repeated() -> None:
    (found,) = misfits({"a": "x"}, {"properties": {"a": {"pattern": "\x1b\\[2J"}}})
    assert "\x1b" not in found.message
