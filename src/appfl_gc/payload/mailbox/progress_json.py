"""How a task's progress is written down."""

from __future__ import annotations

from appfl_gc.payload.mailbox.base import TaskProgress
from appfl_gc.protocol.wire import WireError, as_count, as_object, load_json

LENGTH = 100
"""Bytes of a note, and all that is read of one: what a site wrote is not trusted."""


def progress_bytes(progress: TaskProgress) -> bytes:
    """``progress`` as JSON, filled up with spaces: a store can be told to take notes of this length only."""
    return f'{{"steps": {progress.steps}, "planned": {progress.planned}}}'.encode().ljust(LENGTH)


def read_progress(content: bytes) -> TaskProgress | None:
    """What a site wrote; None if it is nothing of that form."""
    try:
        fields = as_object(load_json(content.decode()), "The progress")
        steps = as_count(fields.get("steps"), "The steps")
        return TaskProgress(steps, as_count(fields.get("planned"), "The planned steps"))
    except (UnicodeDecodeError, WireError):
        return None
