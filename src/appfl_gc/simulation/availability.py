"""When a client can be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError


@dataclass(frozen=True)
class Availability:
    """Windows in which a client is down; outside of them it is up.

    Args:
        down: ``(begin, end)`` in virtual seconds; down from ``begin`` on, up again at ``end``, which may be
            infinite.
        every: the windows repeat after so many seconds; 0 if they do not.

    Raises:
        UserCodeError: if a window is empty, before 0 or longer than ``every``, or two overlap.
    """

    down: tuple[tuple[float, float], ...] = ()
    every: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.every) and self.every >= 0):
            raise UserCodeError(f"Windows repeat every {self.every} seconds; that must be 0 or more.")
        last = 0.0
        for begin, end in self.down:
            if not last <= begin < end:
                raise UserCodeError(
                    f"The client is down from second {begin} to {end}; expected an end after the beginning, and "
                    "windows in order that do not overlap."
                )
            last = end
        if self.every and last > self.every:
            raise UserCodeError(f"A window ends at second {last}; windows repeat every {self.every} seconds.")
        if self.every and sum(end - begin for begin, end in self.down) >= self.every:
            raise UserCodeError("The client is never up.")

    def is_up(self, at: float) -> bool:
        """Whether the client is up at virtual second ``at``."""
        within = at % self.every if self.every else at
        return not any(begin <= within < end for begin, end in self.down)

    def next_edge(self, after: float) -> float:
        """The first begin or end of a window later than ``after``; infinite if there is none."""
        if not self.down:
            return math.inf
        start = after // self.every * self.every if self.every else 0.0
        laps = (start, start + self.every, start + 2 * self.every) if self.every else (0.0,)
        edges = (lap + edge for lap in laps for window in self.down for edge in window)
        return next((edge for edge in edges if edge > after), math.inf)

    def first_up(self) -> float:
        """The first second at which the client is up; infinite if there is none."""
        at = 0.0
        while not math.isinf(at) and not self.is_up(at):
            at = self.next_edge(at)
        return at

    def down_seconds(self, end: float) -> float:
        """Seconds of [0, ``end``] in which the client is down."""
        if not self.every:
            return self._overlap(end)
        laps, rest = divmod(end, self.every)
        return laps * self._overlap(self.every) + self._overlap(rest)

    def _overlap(self, end: float) -> float:
        return sum(min(last, end) - begin for begin, last in self.down if begin < end)
