"""The role ``payload``: updates that the outbox holds."""

from __future__ import annotations

from dataclasses import replace

from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.wire import as_key
from appfl_gc.site.delivery import deliver_kept
from appfl_gc.site.outbox import Outbox
from appfl_gc.site.roles.context import Answer, CallContext


def send(context: CallContext) -> Answer:
    """Send the update of an earlier call, ``args["of"]`` of the same round, into the store that this call grants.

    Raises:
        TransferError: if the outbox does not hold it any more.
    """
    of = replace(context.call, channel=as_key(context.call.args.get("of"), "The channel", 100))
    outbox = Outbox(context.paths.outbox, context.policy.outbox, context.logger)
    found = outbox.find_any(of)
    if found is None or found.kept is None:
        raise TransferError(
            f"The site's outbox no longer holds the update of {context.call.identity}.",
            "The site's policy file sets how much the outbox keeps, and how long (outbox: max_bytes, max_days).",
        )
    return deliver_kept(context, outbox, found.answer, found.kept, of)
