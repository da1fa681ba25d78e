"""Processes below this one, while they come and go."""

from __future__ import annotations

import contextlib

import psutil


def below() -> dict[int, str]:
    """The command line of each process that this one started, or one of those started, by its id."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended since
            found[child.pid] = " ".join(child.cmdline())
    return found
