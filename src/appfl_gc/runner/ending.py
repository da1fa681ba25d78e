"""How a run ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from appfl_gc.protocol.errors import ErrorReport
from appfl_gc.runner.events import Outcome


@dataclass
class Ending:
    """How a run ended.

    Attributes:
        outcome: None while it goes on.
        error: why, when it failed.
        set_aside: clients that take no part any more, with the reason.
        interrupted: somebody asked for the end.
        displaced: another server has the run now.
    """

    outcome: Outcome | None = None
    error: ErrorReport | None = None
    set_aside: dict[str, ErrorReport] = field(default_factory=dict)
    interrupted: bool = False
    displaced: bool = False

    def be(self, outcome: Outcome, error: ErrorReport | None = None) -> None:
        """End so, unless the run has ended already."""
        if self.outcome is None:
            self.outcome, self.error = outcome, error
