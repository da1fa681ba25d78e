"""Tensors of an answer on their way into the store that the call grants.

Where others run the store, the site first keeps the encoded update in its outbox. Whatever then fails, the
training is not lost: the answer says that the outbox holds the update, and a later call sends it from there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import time
from dataclasses import replace

from appfl_gc.payload import checksum, coding
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.encoded import Encoded, MappedFile
from appfl_gc.payload.grants import goes_far
from appfl_gc.payload.stores import from_grant
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import AppflGcError, ErrorClass, ErrorReport, TransferError
from appfl_gc.protocol.reference import PACKED
from appfl_gc.protocol.wire import Json, WireError, as_object
from appfl_gc.site.outbox import Kept, Outbox
from appfl_gc.site.roles.context import Answer, CallContext
from appfl_gc.site.stopping import StopReason
from appfl_gc.site.watch import stopped

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
        AppflGcError: if neither the store took them nor the outbox could keep them.
    """
    call, stopwatch = context.call, context.stopwatch
    if answer.tensors is None:
        return answer
    grant = as_object(call.args.get("grant"), "The grant")
    with stopwatch.measure("encode"):
        payload = coding.compressed(answer.tensors, coding_of(call, UPDATE))
    answer = replace(answer, tensors=None, values={**answer.values, **_described(payload)})
    unwanted = context.watch.reason() is StopReason.CANCELLED
    if not unwanted and not goes_far(grant, payload.size):
        with stopwatch.measure("transfer"), contextlib.closing(from_grant(grant)) as store:
            reference = store.put(payload)
        sent = replace(answer, payloads={UPDATE: reference}, measures=stopwatch.measures)
        _note_sent(context, outbox, sent, None)
        return sent
    try:
        with stopwatch.measure("encode"):
            kept = outbox.keep(call, payload)
        held = replace(answer, payloads={UPDATE: kept.reference}, measures=stopwatch.measures)
        outbox.store(call, held, kept)
    except (AppflGcError, OSError) as error:
        context.logger.warning("The outbox can't keep the update, which is sent all the same. %s", error)
        answer = replace(answer, measures=stopwatch.measures)
        if unwanted:
            return replace(answer, values={}, error=stopped(StopReason.CANCELLED))
        return _send(context, outbox, answer, None, payload)
    if unwanted:
        # The run's stores are swept by now; a later attempt sends it from here.
        return replace(held, error=stopped(StopReason.CANCELLED))
    return _send(context, outbox, held, kept, MappedFile(kept.path, kept.reference.codec))


def deliver_kept(context: CallContext, outbox: Outbox, held: Answer, kept: Kept, of: Call) -> Answer:
    """Send the update of an earlier answer, which the outbox kept, into the store that this call grants.

    Args:
        context: of this call.
        outbox: which kept it.
        held: the answer.
        kept: its update.
        of: the call that was answered.

    Raises:
        TransferError: if what the outbox kept was damaged meanwhile; the outbox then forgets it.
    """
    context.logger.info("%s: the update is sent again from the outbox.", of.identity)
    payload = MappedFile(kept.path, kept.reference.codec)
    try:
        checksum.check(next(payload.chunks()), kept.reference.checksum, "An update out of the outbox")
    except TransferError:
        outbox.forget(of)
        raise
    held = replace(held, payloads={UPDATE: kept.reference})
    asked = replace(of, args={**of.args, "grant": context.call.args.get("grant")})
    return _send(replace(context, call=asked), outbox, held, kept, payload)


def _send(
    context: CallContext, outbox: Outbox, answer: Answer, kept: Kept | None, payload: Encoded
) -> Answer:
    """Put ``payload`` into the granted store. What then fails costs nothing where the outbox has it (``kept``)."""
    call, begun = context.call, time.perf_counter()
    grant = as_object(call.args.get("grant"), "The grant")
    try:
        with contextlib.closing(from_grant(grant)) as store:
            far = goes_far(grant, payload.size)
            reference = store.put(coding.sealed(payload, coding_of(call, UPDATE)) if far else payload)
    except (AppflGcError, OSError) as error:
        if kept is None:
            raise
        context.logger.warning("The update could not be sent and stays in the outbox. %s", error)
        report = error.report if isinstance(error, AppflGcError) else None
        return replace(answer, error=report or ErrorReport(ErrorClass.TRANSFER, f"{error}."))
    spent = time.perf_counter() - begun
    megabytes = reference.size / 1e6
    rate = megabytes / max(spent, 1e-9)
    context.logger.info("Sent %.1f MB in %.1f s (%.0f MB/s) by %s.", megabytes, spent, rate, reference.scheme)
    measures = answer.measures or context.stopwatch.measures
    sent = replace(
        answer, payloads={UPDATE: reference}, measures=replace(measures, transfer=measures.transfer + spent)
    )
    _note_sent(context, outbox, sent, kept)
    return sent


def _note_sent(context: CallContext, outbox: Outbox, sent: Answer, kept: Kept | None) -> None:
    try:
        outbox.store(context.call, sent, kept)
    except OSError as error:
        context.logger.warning("The outbox could not note that the update was sent: %s", error)


def _described(payload: Encoded) -> dict[str, Json]:
    """What compression did, for the metrics."""
    if payload.codec != PACKED:
        return {}
    from appfl_gc.payload.compression.packing import Packed

    if not isinstance(payload, Packed):
        return {}
    return {"compression": {"ratio": payload.ratio, "largest_error": payload.largest_error}}
