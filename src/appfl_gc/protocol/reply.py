"""The reply: what a site answers, or why it could not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ErrorClass, ErrorReport
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.measures import Measures
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import (
    MAX_LOG_LINES,
    WIRE_VERSION,
    Json,
    WireError,
    as_int,
    as_key,
    as_line,
    as_object,
    as_plain,
)

MAX_PAYLOADS = 100
NOT_A_SITES = frozenset(
    {
        ErrorClass.WORKER_LOST,
        ErrorClass.MANAGER_LOST,
        ErrorClass.QUEUE_LIMIT,
        ErrorClass.LATE,
        ErrorClass.FORGOTTEN,
        ErrorClass.SERVICE,
        ErrorClass.START_FAILED,
        ErrorClass.ENDPOINT,
    }
)
"""What only the server's side can know of a call. Some of these are tried again without end."""


@dataclass(frozen=True)
class Reply:
    """Answer to one call.

    Attributes:
        identity: the call's identity, echoed.
        nonce: the call's nonce, echoed.
        values: what the channel returns (metrics, counts).
        payloads: named references to tensors.
        measures: what the call cost at the site.
        log: lines of the site's log that belong to this call, capped.
        error: why there is no answer, or None.
        wire: version of this message.
    """

    identity: CallId
    nonce: str
    values: Mapping[str, Json] = field(default_factory=dict)
    payloads: Mapping[str, Ref] = field(default_factory=dict)
    measures: Measures = field(default_factory=Measures)
    log: tuple[str, ...] = ()
    error: ErrorReport | None = None
    wire: int = WIRE_VERSION

    def to_json(self) -> dict[str, Json]:
        """The JSON form, which the entry function returns."""
        return {
            "wire": self.wire,
            "identity": self.identity.to_json(),
            "nonce": self.nonce,
            "values": dict(self.values),
            "payloads": {name: ref.to_json() for name, ref in self.payloads.items()},
            "measures": self.measures.to_json(),
            "log": list(self.log),
            "error": None if self.error is None else self.error.to_json(),
        }

    @classmethod
    def from_json(cls, value: Json) -> Reply:
        """Parse the JSON form of another party.

        What a site may choose freely is made safe to keep and to show: see ``as_plain``, ``as_line``.

        Raises:
            WireError: if a field is missing or of the wrong type, there is too much in one, or the wire version is
                another.
        """
        fields = as_object(value, "The reply")
        wire = as_int(fields.get("wire"), "The reply's wire version")
        if wire != WIRE_VERSION:
            raise WireError(f"The reply has wire version {wire}; this side speaks version {WIRE_VERSION}.")
        payloads = as_object(fields.get("payloads"), "The reply's payloads")
        if len(payloads) > MAX_PAYLOADS:
            raise WireError(f"The reply names more than {MAX_PAYLOADS} payloads.")
        log = fields.get("log")
        if not isinstance(log, list):
            raise WireError("The reply's log is not a list.")
        told = fields.get("error")
        error = None if told is None else ErrorReport.from_json(told)
        if error is not None and error.error_class in NOT_A_SITES:
            raise WireError(
                f"The reply has the error class {error.error_class.value}, which no site can know."
            )
        return cls(
            identity=CallId.from_json(fields.get("identity")),
            nonce=as_key(fields.get("nonce"), "The reply's nonce", 100),
            values=as_object(as_plain(fields.get("values"), "The reply"), "The reply's values"),
            payloads={as_key(name, "A payload's name"): Ref.from_json(ref) for name, ref in payloads.items()},
            measures=Measures.from_json(fields.get("measures")),
            log=tuple(as_line(line, "A log line") for line in log[:MAX_LOG_LINES]),
            error=error,
            wire=wire,
        )

    def check_answers(self, call: Call) -> None:
        """Raise ``WireError`` unless this reply answers ``call``: same nonce and identity (any attempt)."""
        same = (self.identity.run, self.identity.round, self.identity.client) == (
            call.identity.run,
            call.identity.round,
            call.identity.client,
        )
        if not same or self.nonce != call.nonce:
            raise WireError(f"The reply answers another call ({self.identity}) than {call.identity}.")
