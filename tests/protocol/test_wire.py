"""Messages of another party: whatever arrives is parsed or refused, never believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass, ErrorReport
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.measures import Measures
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import NOT_A_SITES, Reply
from appfl_gc.protocol.update_spec import Meaning, TensorSpec, UpdateSpec
from appfl_gc.protocol.wire import (
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_KEY,
    MAX_TEXT,
    WireError,
    as_plain,
    clean_text,
    load_json,
)

CALL = Call(
    CallId("run", 3, "Client1", 2),
    "trainer.train",
    {"config": {"a": [1, None]}},
    {"model": Ref("file", "abc", 12, "xxh3-128:00", "safetensors")},
    nonce="n",
    seed=7,
    threads=2,
)
REPLY = Reply(
    CALL.identity,
    "n",
    {"metrics": {"loss": 0.5}},
    {"update": Ref("file", "def", 12, "xxh3-128:01", "safetensors")},
    Measures(1.0, 2.0, 3.0, 4.0, 5, 6.0),
    ("a line",),
    ErrorReport(ErrorClass.USER, "It failed.", "Do this.", ("f.py:1 in g",), "trace"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("message", [CALL, REPLY])
def test_messages_survive_json(message: Call | Reply) -> None:
    assert type(message).from_json(load_json(json.dumps(message.to_json()))) == message


def test_spec_survives_json() -> None:
    spec = UpdateSpec((TensorSpec("w", (2, 3), "float32", Meaning.DELTA), TensorSpec("n", (), "int64")))
    assert UpdateSpec.from_json(load_json(json.dumps(spec.to_json()))) == spec
    assert spec.nbytes == 32


@given(json_values)
def test_any_json_is_a_reply_or_refused(value: object) -> None:
    with pytest.raises(WireError):
        Reply.from_json(value)  # type: ignore[arg-type]


@given(st.sampled_from(sorted(REPLY.to_json())), json_values)
def test_a_reply_with_any_field_replaced_is_a_reply_or_refused(name: str, value: object) -> None:
    try:
        reply = Reply.from_json({**REPLY.to_json(), name: value})  # type: ignore[dict-item]
    except WireError:
        return
    json.dumps(reply.to_json())


def test_deep_nesting_and_repeated_keys_are_refused() -> None:
    with pytest.raises(WireError, match="nests deeper"):
        load_json("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2))
    with pytest.raises(WireError):
        load_json("[" * 100_000)
    with pytest.raises(WireError, match="repeats a key"):
        load_json('{"a": 1, "a": 2}')


def test_text_of_another_party_is_safe_to_print() -> None:
    assert clean_text("a\x1b[31mb\x00c\r\nd\te") == "a�[31mb�c�\nd\te"
    assert clean_text("x" * 30, 10) == "x" * 10 + " [... 20 characters more]"
    hostile = {**REPLY.to_json(), "log": ["\x1b]0;title\x07"] * 10_000}
    reply = Reply.from_json(hostile)
    assert len(reply.log) == 500
    assert "\x1b" not in reply.log[0]


def test_what_a_site_chooses_freely_is_made_safe_to_keep() -> None:
    hostile = '{"a\\u001b[2J": "\\ud800", "n": [NaN, -Infinity, 1e999, 99999999999999999999, true, 7], "\\ud801": 1}'
    reply = Reply.from_json({**REPLY.to_json(), "values": load_json(hostile)})
    assert reply.values == {"a\ufffd[2J": "\ufffd", "n": [None, None, None, None, True, 7], "\ufffd": 1}
    json.dumps(reply.values, allow_nan=False, ensure_ascii=False).encode()
    long = Reply.from_json({**REPLY.to_json(), "values": {"k" * 10_000: "x" * 100_000}}).values
    [(key, text)] = long.items()
    assert len(key) < MAX_KEY + 50
    assert isinstance(text, str)
    assert len(text) < MAX_TEXT + 50


def test_of_two_keys_that_look_alike_the_first_counts() -> None:
    assert as_plain({"loss": 1, "lo\x00ss": 2, "lo\x01ss": 3}, "It") == {"loss": 1, "lo\ufffdss": 2}


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    "values",
    [
        {str(i): i for i in range(MAX_ITEMS)},
        {"a": [[0] * 10] * (MAX_ITEMS // 10)},
        {"a": nested(MAX_DEPTH + 1)},
    ],
    ids=["keys", "lists", "depth"],
)
def test_a_reply_with_too_many_values_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(WireError, match=r"The reply holds (more than 20000 values|values nested deeper)"):
        Reply.from_json({**REPLY.to_json(), "values": values})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("scheme", "locator"),
    [("inline", "ü"), ("inline", "\ud800"), ("file", "\ud800"), ("s3", "a\x1b[2Jb"), ("s3", 7)],
)
def test_a_locator_is_plain_text(scheme: str, locator: object) -> None:
    reference = {**REPLY.payloads["update"].to_json(), "scheme": scheme, "locator": locator}
    with pytest.raises(WireError, match="A reference's locator is not"):
        Ref.from_json(reference)  # type: ignore[arg-type]
    assert Ref.from_json({**reference, "scheme": "file", "locator": "/daten/für/alle"}).scheme == "file"


@pytest.mark.parametrize("error_class", sorted(NOT_A_SITES))
def test_a_site_cannot_speak_for_the_control_plane(error_class: ErrorClass) -> None:
    """It would be tried again as often as it says so."""
    error = ErrorReport(error_class, "I was forgotten.").to_json()
    with pytest.raises(WireError, match="which no site can know"):
        Reply.from_json({**REPLY.to_json(), "error": error})


def test_a_reply_with_too_many_payloads_is_refused() -> None:
    many = {f"p{i}": REPLY.payloads["update"].to_json() for i in range(101)}
    with pytest.raises(WireError, match="more than 100 payloads"):
        Reply.from_json({**REPLY.to_json(), "payloads": many})  # type: ignore[dict-item]


def test_a_log_line_stays_one_line() -> None:
    reply = Reply.from_json({**REPLY.to_json(), "log": ["fine\nRound 9 begins.\r\n"]})
    assert "\n" not in reply.log[0]


@pytest.mark.parametrize(
    "other",
    [
        Reply(CallId("other", 3, "Client1", 2), "n"),
        Reply(CallId("run", 4, "Client1", 2), "n"),
        Reply(CallId("run", 3, "Client2", 2), "n"),
        Reply(CallId("run", 3, "Client1", 2), "guess"),
    ],
)
def test_a_reply_answers_only_its_own_call(other: Reply) -> None:
    REPLY.check_answers(CALL)
    with pytest.raises(WireError, match="another call"):
        other.check_answers(CALL)


def test_a_message_of_another_wire_version_is_refused() -> None:
    with pytest.raises(WireError, match="version 99"):
        Call.from_json({**CALL.to_json(), "wire": 99})
    with pytest.raises(WireError, match="version 99"):
        Reply.from_json({**REPLY.to_json(), "wire": 99})
