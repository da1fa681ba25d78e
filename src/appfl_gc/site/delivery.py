"""Tensors of an answer on their way into the store that the call grants.

Where others run the store, the site first keeps the encoded update in its outbox. Whatever then fails, the
training is not lost: the answer says that the outbox holds the update, and a later call sends it from there.
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import replace

from appfl_gc.payload import coding
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.encoded import Encoded, MappedFile
from appfl_gc.payload.store import Store
from appfl_gc.payload.stores import Stores, from_grant
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import HELD, Ref
from appfl_gc.protocol.wire import Json, WireError, as_object
from appfl_gc.site.outbox import Kept, Outbox
from appfl_gc.site.roles.context import Answer, CallContext

UPDATE = "update"


def compression_of(call: Call, what: str) -> CompressionSettings | None:
    """How ``update`` or ``model`` is compressed, as the call says; raises ``WireError``."""
    how = as_object(call.args.get("compression") or {}, "The compression").get(what)
    return None if how is None else CompressionSettings.from_json(as_object(how, "The compression"))


def coding_of(call: Call, what: str) -> Coding:
    """How ``update`` or ``model`` is encoded, as the call says; raises ``WireError``."""
    settings = compression_of(call, what)
    key = as_object(call.args.get("grant"), "The grant").get(f"{what}_key")
    if key is None:
        return Coding(settings)
    try:
        return Coding(settings, base64.b64decode(str(key), validate=True))
    except binascii.Error:
        raise WireError("The grant's key is not base64.") from None


def deliver(context: CallContext, outbox: Outbox, answer: Answer) -> Answer:
    """Put the tensors of ``answer`` into the granted store and keep the answer.

    Raises:
        TransferError: if the store did not take them and the outbox could not keep them either.
    """
    call, stopwatch = context.call, context.stopwatch
    if answer.tensors is None:
        return answer
    how = coding_of(call, UPDATE)
    granted = from_grant(as_object(call.args.get("grant"), "The grant"))
    try:
        with stopwatch.measure("encode"):
            payload = coding.compressed(answer.tensors, how)
        answer = replace(answer, tensors=None, values={**answer.values, **_described(payload)})
        store = granted.choice(payload.size) if isinstance(granted, Stores) else granted
        if not store.remote:
            with stopwatch.measure("transfer"):
                reference = store.put(payload)
            sent = replace(answer, payloads={UPDATE: reference}, measures=stopwatch.measures)
            outbox.store(call, sent)
            return sent
        with stopwatch.measure("encode"):
            kept = outbox.keep(call, payload)
        held = replace(answer, payloads={UPDATE: kept.reference}, measures=stopwatch.measures)
        outbox.store(call, held, kept)
        return _send(context, outbox, held, kept, store)
    finally:
        granted.close()


def deliver_kept(context: CallContext, outbox: Outbox, held: Answer, kept: Kept, of: Call) -> Answer:
    """Send the update of an earlier answer, which the outbox kept, into the store that this call grants.

    Args:
        context: of this call.
        outbox: which kept it.
        held: the answer.
        kept: its update.
        of: the call that was answered.
    """
    context.logger.info("%s: the update is sent again from the outbox.", of.identity)
    granted = from_grant(as_object(context.call.args.get("grant"), "The grant"))
    try:
        store = granted.choice(kept.reference.size) if isinstance(granted, Stores) else granted
        return _send(replace_call(context, of), outbox, held, kept, store)
    finally:
        granted.close()


def replace_call(context: CallContext, of: Call) -> CallContext:
    """``context`` for another call's identity and channel, with this call's grant."""
    return replace(context, call=replace(of, args={**of.args, "grant": context.call.args.get("grant")}))


def _send(context: CallContext, outbox: Outbox, held: Answer, kept: Kept, store: Store) -> Answer:
    call, begun = context.call, time.perf_counter()
    how = coding_of(call, UPDATE)
    payload: Encoded = MappedFile(kept.path, kept.reference.codec)
    try:
        reference: Ref = store.put(coding.sealed(payload, how) if store.remote else payload)
    except TransferError as error:
        context.logger.warning("The update could not be sent and stays in the outbox. %s", error)
        return replace(held, error=error.report)
    spent = time.perf_counter() - begun
    context.logger.info(
        "Sent %.1f MB in %.1f s (%.0f MB/s) by %s.",
        reference.size / 1e6,
        spent,
        reference.size / 1e6 / max(spent, 1e-9),
        reference.scheme,
    )
    measures = held.measures or context.stopwatch.measures
    sent = replace(
        held, payloads={UPDATE: reference}, measures=replace(measures, transfer=measures.transfer + spent)
    )
    outbox.store(call, sent, kept)
    return sent


def is_held(answer: Answer) -> bool:
    """Whether the outbox holds the answer's update, and no store."""
    update = answer.payloads.get(UPDATE)
    return update is not None and update.scheme == HELD


def _described(payload: Encoded) -> dict[str, Json]:
    """What compression did, for the metrics."""
    if payload.codec != coding.PACKED:
        return {}
    from appfl_gc.payload.compression.packing import Packed

    if not isinstance(payload, Packed):
        return {}
    return {"compression": {"ratio": payload.ratio, "largest_error": payload.largest_error}}
