"""Output that nobody reads any more, as after ``| head``: what runs goes on, and its exit status stands."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def write_to_nobody(stream: TextIO) -> None:
    """Send what else is written to ``stream`` nowhere."""
    try:
        descriptor = stream.fileno()
    except (io.UnsupportedOperation, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def plain_console(file: TextIO | None = None) -> Console:
    """A console that takes text as it is, and goes on when nobody reads it any more."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            write_to_nobody(self.file)  # type: ignore[arg-type]  # rich's own type is wider

    return Patient(file=file, markup=False, emoji=False, highlight=False)
