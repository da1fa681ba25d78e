"""The messages between service, endpoints and SDK: a byte 1 and JSON, and the buffers inside a task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from appfl_gc.sandbox.model import Outcome

VERSION = b"\x01"


def pack(kind: str, data: Mapping[str, Any]) -> bytes:
    """A message as bytes."""
    return VERSION + json.dumps({"message_type": kind, "data": data}).encode()


def unpack(body: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and content of a message; raises ``ValueError`` for anything else."""
    if not body.startswith(VERSION):
        raise ValueError("not a message")
    message = json.loads(body[1:])
    kind, data = message.get("message_type"), message.get("data")
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise ValueError("not a message")
    return kind, data


def pack_buffers(buffers: Sequence[str]) -> str:
    """Several texts as one, each after its length."""
    return "".join(f"{len(buffer)}\n{buffer}" for buffer in buffers)


def source_buffer(name: str, source: str) -> str:
    """The code buffer of a function that was registered as plain source."""
    return pack_buffers([f"st\n{name}:{source}"])


def task_message(task_id: str, buffer: str) -> bytes:
    """A task for a user endpoint."""
    return pack("task", {"task_id": task_id, "container_id": None, "container": None, "task_buffer": buffer})


def result_message(task_id: str, outcome: Outcome) -> bytes:
    """A result that the service itself makes."""
    error = {"code": "SANDBOX", "user_message": outcome.data} if outcome.failed else None
    return pack(
        "result",
        {
            "task_id": task_id,
            "data": outcome.data,
            "details": outcome.details,
            "error_details": error,
            "task_statuses": [],
        },
    )
