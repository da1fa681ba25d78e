"""Packing by true bytes: against the request body that the SDK really sends."""

from __future__ import annotations

import json
import uuid
from typing import Any

from globus_compute_sdk.sdk.batch import create_user_runtime
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.control.globus_compute.sending.packing import MOST_CALLS, RESERVE, call_bytes, fitting, room
from appfl_gc.control.globus_compute.sending.sdk_internals import CallBatch
from appfl_gc.control.globus_compute.sending.serializer import JsonOnlySerializer
from appfl_gc.control.message import RESULT_SERIALIZERS, call_arguments
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.identity import CallId

texts = st.text(max_size=200)


def body(payloads: list[str], options: dict[str, Any] | None = None) -> str:
    batch = CallBatch(
        uuid.uuid4(),
        {"nodes": 1},
        options,
        True,
        serializer=JsonOnlySerializer(),
        user_runtime=create_user_runtime(),
        result_serializers=RESULT_SERIALIZERS,
    )
    batch.tasks[uuid.uuid4()].extend(payloads)
    return json.dumps(batch.prepare())


def payload(call: Call) -> str:
    serializer = JsonOnlySerializer()
    text: str = serializer.pack_buffers([call_arguments(call), serializer.serialize({})])
    return text


@given(st.lists(st.dictionaries(texts, texts, max_size=5), min_size=1, max_size=4), texts)
def test_the_bytes_are_those_of_the_request(args: list[dict[str, Any]], option: str) -> None:
    calls = [Call(CallId("run", 1, "A"), "site.hello", one, nonce="n") for one in args]
    options = {"account": option}
    written = len(body([payload(call) for call in calls], options))
    empty = len(body([], options))
    counted = sum(map(call_bytes, calls))
    assert written - empty <= counted <= written - empty + 2 * len(calls)
    assert empty <= RESERVE + len(json.dumps(options))
    assert written <= counted + 20_000 - room(20_000, options)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=300), st.integers(1, 5000))
def test_the_longest_beginning_that_fits(sizes: list[int], space: int) -> None:
    count = fitting(sizes, space)
    assert 1 <= count <= MOST_CALLS
    assert count == 1 or sum(sizes[:count]) <= space
    assert count in (len(sizes), MOST_CALLS) or sum(sizes[: count + 1]) > space


def test_nothing_fits_if_nothing_waits() -> None:
    assert fitting([], 100) == 0
