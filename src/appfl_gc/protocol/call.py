"""The call: what a server asks of a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import WIRE_VERSION, Json, WireError, as_int, as_key, as_object


@dataclass(frozen=True)
class Call:
    """One call of a channel of a role at a site.

    Attributes:
        identity: whose call this is; the same identity always means the same work.
        channel: ``role.channel``, such as ``trainer.train``.
        args: JSON arguments of the channel.
        payloads: named references to tensors.
        nonce: unguessable text that the reply must repeat.
        seed: what all randomness of this call derives from (63 bits).
        threads: CPU threads of tensor operations; part of the call because it changes the bits. 0 leaves the
            choice to the site.
        wire: version of this message.
    """

    identity: CallId
    channel: str
    args: Mapping[str, Json] = field(default_factory=dict)
    payloads: Mapping[str, Ref] = field(default_factory=dict)
    nonce: str = ""
    seed: int = 0
    threads: int = 0
    wire: int = WIRE_VERSION

    def to_json(self) -> dict[str, Json]:
        """The JSON form, which the entry function at the site receives."""
        return {
            "wire": self.wire,
            "identity": self.identity.to_json(),
            "channel": self.channel,
            "args": dict(self.args),
            "payloads": {name: ref.to_json() for name, ref in self.payloads.items()},
            "nonce": self.nonce,
            "seed": self.seed,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, value: Json) -> Call:
        """Parse the JSON form.

        Raises:
            WireError: if a field is missing or of the wrong type, or the wire version is another.
        """
        fields = as_object(value, "The call")
        wire = as_int(fields.get("wire"), "The call's wire version")
        if wire != WIRE_VERSION:
            raise WireError(f"The call has wire version {wire}; this side speaks version {WIRE_VERSION}.")
        channel = as_key(fields.get("channel"), "The call's channel", 100)
        if channel.count(".") != 1:
            raise WireError(f"The call's channel {channel!r} is not of the form role.channel.")
        payloads = as_object(fields.get("payloads"), "The call's payloads")
        return cls(
            identity=CallId.from_json(fields.get("identity")),
            channel=channel,
            args=as_object(fields.get("args"), "The call's args"),
            payloads={as_key(name, "A payload's name"): Ref.from_json(ref) for name, ref in payloads.items()},
            nonce=as_key(fields.get("nonce"), "The call's nonce", 100),
            seed=as_int(fields.get("seed"), "The call's seed"),
            threads=as_int(fields.get("threads"), "The call's threads"),
            wire=wire,
        )
