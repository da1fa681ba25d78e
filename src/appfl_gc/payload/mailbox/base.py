"""What a mailbox does, at the server and at the site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from appfl_gc.protocol.wire import Json


@dataclass(frozen=True)
class TaskProgress:
    """How far a task is, as its site tells.

    Attributes:
        steps: local steps done.
        planned: of so many; 0 where that is not known.
    """

    steps: int
    planned: int = 0


class ServerMailbox(Protocol):
    """The server's side of one call's mailbox.

    The call is wanted as long as the mailbox's mark lies in the store. It goes with everything else of the run, so
    that a run whose stores are swept stops its sites; a server that was killed leaves it, and they go on.
    """

    @property
    def grant(self) -> dict[str, Json]:
        """What travels in the call, as ``args["mailbox"]``. It may hold what gives access: not for the journal."""

    @property
    def public(self) -> dict[str, Json]:
        """``grant`` without what gives access, for the journal; enough to take the mark away later."""

    def progress(self) -> TaskProgress | None:
        """What the site told last; None if it has told nothing.

        Raises:
            TransferError: if the store can't be reached.
        """

    def remove(self) -> None:
        """Take the mark away: a site that still works on the call stops at its next step.

        Raises:
            TransferError: if the store can't be reached.
        """


class SiteMailbox(Protocol):
    """The site's side."""

    def wanted(self) -> bool:
        """Whether the mark is there; True also where the store does not say."""

    def tell(self, progress: TaskProgress) -> None:
        """Let the server know; what goes wrong is of no consequence."""

    def close(self) -> None:
        """Drop connections."""
