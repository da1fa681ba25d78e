"""A call on its way to a site, and its update on the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.control.plane import CallState
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.reply import Reply


@dataclass(eq=False)
class InFlight:
    """A call that has no answer yet.

    Attributes:
        call: as it was sent.
        sent: when, in monotonic seconds.
        version: of the model that it carries.
        mailbox: beside it, where its store has one; None once its mark is gone.
        task: the service's number of it, or "".
        states: what the control plane told of it on the way, each with its monotonic second.
    """

    call: Call
    sent: float
    version: int
    mailbox: ServerMailbox | None = None
    task: str = ""
    states: list[tuple[CallState, float]] = field(default_factory=list)

    def seconds_in(self, until: float) -> dict[str, float]:
        """Seconds spent in each state that was told, up to monotonic second ``until``."""
        ends = [*(at for _, at in self.states[1:]), until]
        seconds: dict[str, float] = {}
        for (state, at), end in zip(self.states, ends, strict=False):
            seconds[state.value] = seconds.get(state.value, 0.0) + max(0.0, end - at)
        return seconds


@dataclass(frozen=True)
class Landing:
    """An update that is announced and yet to be brought in.

    Attributes:
        flight: the call that was answered.
        reply: its reply.
        answered: when that came, in monotonic seconds.
        reference: where the update is.
        sample_size: of the client.
        slot: where it goes.
        kept: the file that keeps it, and its checksum, once it is there.
    """

    flight: InFlight
    reply: Reply
    answered: float
    reference: Ref
    sample_size: int
    slot: int
    kept: Kept | None = None


@dataclass(frozen=True)
class Kept:
    """A file that has an accepted update until it is folded, and its checksum."""

    path: Path
    checksum: str
