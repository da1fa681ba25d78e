"""Calls and replies in Globus Compute's own message format: plain source and JSON, nothing else.

The SDK's deserialiser always admits a code strategy, and those execute what they read; results are therefore
read here, by the header of the JSON strategy alone.
"""

from __future__ import annotations

import functools
import inspect
import json
import uuid

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_sdk.serialize import ComputeSerializer

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import DeliveryError, ErrorClass
from appfl_gc.protocol.reply import Reply
from appfl_gc.protocol.wire import WireError, clean_text, load_json
from appfl_gc.site.entry import appfl_gc_entry, entry_requirements
from appfl_gc.version import VERSION

JSON_HEADER = "11\n"
SOURCE_HEADER = "st\n"
RESULT_SERIALIZERS = ["globus_compute_sdk.serialize.JSONData"]


class ReplyError(DeliveryError):
    """What came back is not a reply to the call; the same site would answer so again."""

    error_class = ErrorClass.PROTOCOL


@functools.cache
def entry_source() -> str:
    """The entry function as the source text that sites run."""
    return inspect.getsource(appfl_gc_entry)


def call_arguments(call: Call) -> str:
    """The entry function's arguments for ``call``, serialised; printable ASCII but for one line end."""
    return JSON_HEADER + json.dumps([call.to_json(), entry_requirements(VERSION)])


def pack_task(task_id: uuid.UUID, call: Call) -> bytes:
    """``call`` as the task message that an engine takes."""
    function = f"{SOURCE_HEADER}{appfl_gc_entry.__name__}:{entry_source()}"
    buffer = ComputeSerializer.pack_buffers([function, call_arguments(call), JSON_HEADER + "{}"])
    packed: bytes = messagepack.pack(Task(task_id=task_id, task_buffer=buffer))
    return packed


def unpack_result(packed: bytes) -> str:
    """The data of an engine's result message.

    Raises:
        ReplyError: if the reply was larger than the engine carries.
        DeliveryError: if the engine reports another failure of its own. User errors never arrive this way.
    """
    result = messagepack.unpack(packed)
    if not isinstance(result, Result):
        raise DeliveryError(f"The engine answered with a {type(result).__name__} instead of a result.")
    if result.error_details is not None and result.error_details.code == "MaxResultSizeExceeded":
        raise ReplyError("The site's reply is larger than the engine carries.")
    if result.error_details is not None:
        # A traceback between rulers; its last line is the reason.
        lines = [line for line in result.data.splitlines() if line.strip("+- ")]
        raise DeliveryError(f"The engine failed: {clean_text(lines[-1] if lines else '', 500)}")
    data: str = result.data
    return data


def read_reply(data: str, call: Call) -> Reply:
    """Parse what a site returned for ``call``.

    Raises:
        ReplyError: if it is not JSON, not a reply, or answers another call. Nothing is ever executed.
    """
    if not data.startswith(JSON_HEADER):
        raise ReplyError(
            f"The site returned data that is not JSON ({clean_text(data[:2], 10)!r} instead of "
            f"{JSON_HEADER[:2]!r}); it was not read."
        )
    try:
        reply = Reply.from_json(load_json(data[len(JSON_HEADER) :]))
        reply.check_answers(call)
    except WireError as error:
        raise ReplyError(f"The site returned what is not a reply to its call. {error}") from None
    return reply


def answers(data: str, call: Call) -> bool:
    """Whether what a site returned for some call is the reply to ``call``."""
    try:
        read_reply(data, call)
    except ReplyError:
        return False
    return True
