"""When a client can be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError

SHORTEST = 1.0
"""Seconds after which windows may repeat at the earliest."""


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
        if self.every != 0 and not (math.isfinite(self.every) and self.every >= SHORTEST):
            raise UserCodeError(
                f"Windows repeat every {self.every} seconds; that must be {SHORTEST:g} or more, or 0 for never."
            )
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
        return not any(begin <= at < end for begin, end in self._near(at))

    def next_edge(self, after: float) -> float:
        """The first begin or end of a window later than ``after``; infinite if there is none."""
        return min(
            (edge for window in self._near(after) for edge in window if edge > after), default=math.inf
        )

    def _near(self, at: float) -> list[tuple[float, float]]:
        """The windows in virtual seconds, as far as they are near ``at``.

        An edge is computed in this one way, so that a client is down at exactly the second at which it goes down.
        """
        if not self.every:
            return list(self.down)
        lap = int(at // self.every)
        return [
            (self._edge(number, begin), self._edge(number, end))
            for number in range(lap - 1, lap + 3)
            for begin, end in self.down
        ]

    def _edge(self, lap: int, edge: float) -> float:
        # The end of one lap is the beginning of the next, to the last bit.
        return (lap + 1) * self.every if edge == self.every else lap * self.every + edge

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
