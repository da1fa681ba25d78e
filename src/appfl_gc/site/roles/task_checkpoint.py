"""The checkpoint of the task that a call asks for."""

from __future__ import annotations

from appfl_gc.site.checkpoints import Checkpointer
from appfl_gc.site.outbox import request_of
from appfl_gc.site.roles.context import CallContext


def checkpoint_of(context: CallContext) -> Checkpointer:
    """Where any attempt of the call writes its checkpoint, and goes on from one."""
    call, limits = context.call, context.policy.outbox
    return Checkpointer.of(context.paths.checkpoints, call.identity, request_of(call), limits, context.logger)
