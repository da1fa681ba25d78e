"""A simulation as a picture: a row for each client, what it does from left to right. Plain SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from types import MappingProxyType

from appfl_gc.simulation.profile import ClientProfile
from appfl_gc.simulation.summary import Summary
from appfl_gc.simulation.timeline import Fate, FoldRow, Row, WorkRow

MOST_CLIENTS = 40
MOST_ROWS = 5_000
MOST_LINES = 60
"""More new versions than this would hide the bars under their lines: they are marks above them."""

MOST_FOLDS = 300
"""More new versions than this would be an area rather than marks."""

MOST_WINDOWS = 1_000
"""More windows than this for a client would be a grey area too."""

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1200, 170, 80, 64, 56
ROW, BAR, MARK = 22, 14, 8

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "waits in a queue": "#c9ced6",
        "overhead": "#7fb8d8",
        "trains (local steps)": "#2166ac",
        "transfer": "#f4a259",
        "brings nothing": "#d9534f",
        "down": "#6b6b6b",
        "new version": "#2d9d5f",
    }
)
_QUEUE, _OVERHEAD, _TRAIN, _TRANSFER, _NOTHING, _DOWN, _VERSION = COLOURS.values()


class Gantt:
    """Collects rows for a picture and forgets what does not fit into it: ``add`` is a ``Record``.

    Args:
        profiles: the clients; the first ``MOST_CLIENTS`` are shown.
        title: above the picture.
    """

    def __init__(self, profiles: Sequence[ClientProfile], title: str) -> None:
        self._shown = tuple(profiles[:MOST_CLIENTS])
        self._count = len(profiles)
        self._title = title
        self._line = {profile.client: number for number, profile in enumerate(self._shown)}
        self._work: list[WorkRow] = []
        self._folds: list[float] = []
        self._until = math.inf

    def add(self, row: Row) -> None:
        """Take a row in, if there is room for it."""
        if isinstance(row, FoldRow):
            if len(self._folds) <= MOST_FOLDS:
                self._folds.append(row.at)
        elif row.client in self._line and row.begin < self._until:
            self._work.append(row)
            if len(self._work) >= MOST_ROWS:
                self._until = min(self._until, row.end)

    def svg(self, summary: Summary) -> str:
        """The picture of a simulation that came to ``summary``."""
        end = min(summary.seconds, self._until)
        height = TOP + ROW * len(self._shown) + BOTTOM
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
                f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
                f'<text x="12" y="22" font-size="15">{escape(self._title)}</text>',
                *self._legend(end),
                *self._axis(end, height),
                *self._rows(end, summary),
                "</svg>",
                "",
            ]
        )

    def _legend(self, end: float) -> Iterator[str]:
        x = LEFT
        for name, colour in COLOURS.items():
            if colour == _VERSION and not self._lines(end):
                name = (
                    f"{name} (marks above the rows)"
                    if len(self._folds) <= MOST_FOLDS
                    else f"{name} (not shown)"
                )
            yield f'<rect x="{x}" y="36" width="12" height="12" fill="{colour}"/>'
            yield f'<text x="{x + 17}" y="46">{name}</text>'
            x += 32 + 7 * len(name)

    def _axis(self, end: float, height: int) -> Iterator[str]:
        bottom = height - BOTTOM + 4
        unit, name = _unit(end)
        step = _step(end / unit)
        for number in range(int(end / unit / step + 1e-9) + 1):
            x = _x(number * step * unit, end)
            yield f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}" stroke="#e3e3e3"/>'
            yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{number * step:g}</text>'
        yield f'<text x="{LEFT}" y="{bottom + 36}">virtual {name}{self._left_out(end)}</text>'
        yield f'<text x="{WIDTH - RIGHT + 10}" y="{TOP - 6}">idle</text>'

    def _left_out(self, end: float) -> str:
        parts = []
        if self._count > len(self._shown):
            parts.append(f"the first {len(self._shown)} of {self._count} clients")
        if not math.isinf(self._until):
            parts.append("cut off where the picture is full")
        if any(_windows(profile, end) > MOST_WINDOWS for profile in self._shown):
            parts.append("windows in which a client is down are too many to be shown")
        return "".join(f"; {part}" for part in parts)

    def _rows(self, end: float, summary: Summary) -> Iterator[str]:
        for number, profile in enumerate(self._shown):
            y = TOP + ROW * number
            name = profile.client if len(profile.client) <= 22 else f"{profile.client[:21]}…"
            yield f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
            totals = summary.clients[profile.client]
            reachable = summary.seconds - totals.down
            share = f"{totals.idle / reachable:.0%}" if reachable > 0 else ""
            yield f'<text x="{WIDTH - RIGHT + 10}" y="{y + 15}">{share}</text>'
            yield from self._down(profile, y, end)
        for row in self._work:
            yield from self._bars(row, TOP + ROW * self._line[row.client] + (ROW - BAR) // 2, end)
        if len(self._folds) <= MOST_FOLDS:
            lines = self._lines(end)
            top, bottom = (TOP, TOP + ROW * len(self._shown)) if lines else (TOP - MARK, TOP)
            for at in self._folds:
                if at <= end:
                    x = _x(at, end)
                    yield (
                        f'<line x1="{x}" y1="{top}" x2="{x}" y2="{bottom}" stroke="{_VERSION}" '
                        'stroke-opacity="0.6"/>'
                    )

    def _lines(self, end: float) -> bool:
        """Whether the new versions are few enough for lines through all rows."""
        return sum(at <= end for at in self._folds) <= MOST_LINES

    def _down(self, profile: ClientProfile, y: int, end: float) -> Iterator[str]:
        at, availability = 0.0, profile.availability
        if _windows(profile, end) > MOST_WINDOWS:
            return
        while at < end:
            edge = availability.next_edge(at)
            if not availability.is_up(at):
                yield _bar(at, min(edge, end), y + (ROW - BAR) // 2, end, _DOWN)
            at = edge

    def _bars(self, row: WorkRow, y: int, end: float) -> Iterator[str]:
        at = row.begin
        if row.fate in (Fate.LOST, Fate.DOWN, Fate.CANCELLED):
            yield _bar(at, min(row.end, end), y, end, _NOTHING)
            return
        parts = (
            (row.queue, _QUEUE),
            (row.overhead, _OVERHEAD),
            (row.train, _TRAIN),
            (row.transfer, _TRANSFER),
        )
        for seconds, colour in parts:
            if seconds > 0 and at < end:
                yield _bar(at, min(at + seconds, end), y, end, colour)
                if colour == _TRAIN:
                    yield from _steps_in(row.steps, at, min(at + seconds, end), y, end)
            at += seconds
        yield f'<rect x="{_x(row.begin, end)}" y="{y}" width="1" height="{BAR}" fill="#ffffff"/>'


def _windows(profile: ClientProfile, end: float) -> float:
    """About how many repeated windows there are up to virtual second ``end``."""
    availability = profile.availability
    return len(availability.down) * end / availability.every if availability.every else 0


def _x(at: float, end: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (at / end if end > 0 else 0.0), 2)


def _bar(begin: float, finish: float, y: int, end: float, colour: str) -> str:
    x = _x(begin, end)
    width = max(0.3, round(_x(finish, end) - x, 2))
    return f'<rect x="{x}" y="{y}" width="{width}" height="{BAR}" fill="{colour}"/>'


def _steps_in(steps: int, begin: float, finish: float, y: int, end: float) -> Iterator[str]:
    """The number of local steps, where the bar has room for it."""
    left, right, text = _x(begin, end), _x(finish, end), str(steps)
    if right - left > 7 * len(text) + 4:
        yield (
            f'<text x="{round((left + right) / 2, 2)}" y="{y + BAR - 3}" text-anchor="middle" font-size="10" '
            f'fill="#ffffff">{text}</text>'
        )


def _unit(seconds: float) -> tuple[float, str]:
    """The unit of the axis in seconds, and its name."""
    if seconds >= 3 * 86400:
        return 86400.0, "days"
    if seconds >= 2 * 3600:
        return 3600.0, "hours"
    return (60.0, "minutes") if seconds >= 300 else (1.0, "seconds")


def _step(span: float) -> float:
    """A round distance for about eight marks over ``span``."""
    if span <= 0:
        return 1.0
    rough = span / 8
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
