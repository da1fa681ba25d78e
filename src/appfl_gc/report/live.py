"""The live display on a terminal: starts with the run, repaints itself, frees the terminal at the end."""

from __future__ import annotations

import contextlib
import threading
import time

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from appfl_gc.report.endpoints import endpoint_table, listed
from appfl_gc.report.live_view import view
from appfl_gc.report.progress import Clock, RunProgress
from appfl_gc.runner.events import EndpointsChecked, RunEvent, RunFinished, RunStarted

REPAINTS_PER_SECOND = 4


class LiveDisplay:
    """A context manager around a run. Events come from the run's thread, repaints from rich's.

    One lock guards the progress record; the terminal is never written while it is held. What the program
    prints meanwhile appears above the display.
    """

    def __init__(self, console: Console, *, clock: Clock = time.monotonic) -> None:
        """Show on ``console``, which must be a terminal."""
        self._console = console
        self._lock = threading.Lock()
        self._progress = RunProgress(clock)
        self._live: Live | None = None
        self._endpoints_shown = False

    def __enter__(self) -> LiveDisplay:
        """Nothing is shown before the run starts."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the terminal, however the run ended."""
        self.close()

    def on_event(self, event: RunEvent) -> None:
        """Take an event in; the first one of a run starts the display, the last one ends it."""
        with self._lock:
            self._progress.apply(event)
        if isinstance(event, RunStarted):
            self._open()
        elif isinstance(event, EndpointsChecked):
            self._show_endpoints(event)
        elif isinstance(event, RunFinished):
            self.close()

    def _show_endpoints(self, event: EndpointsChecked) -> None:
        """The first table stays above the display, with what is wrong; later changes show in the display."""
        if self._endpoints_shown:
            return
        self._endpoints_shown = True
        rows, rest = listed(event.rows)
        if rows:
            self._console.print(endpoint_table(rows))
        for row in rows:
            if row.detail:
                self._console.print(Text(f"{', '.join(row.clients)}: {row.detail}"), soft_wrap=True)
        self._console.print(Text(f"{rest}\n" if rest else ""))

    def close(self) -> None:
        """Erase the display and give the cursor back; again is harmless."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(OSError):  # the terminal is gone
                live.stop()

    def _open(self) -> None:
        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._paint,
                refresh_per_second=REPAINTS_PER_SECOND,
                transient=True,
                vertical_overflow="crop",
            )
            self._live.start()

    def _paint(self) -> RenderableType:
        size = self._console.size
        with self._lock:
            return view(self._progress, size.width, size.height)
