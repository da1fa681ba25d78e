"""Rows of the table of faults, which `make chaos` prints at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path


def record(fault: str, times: int, outcome: str, lost: str) -> None:
    """Add a row to the file that ``CHAOS_TABLE`` names; without it nothing is written.

    Args:
        fault: what was broken, and when.
        times: how often.
        outcome: how the runs ended.
        lost: what had to be done again, or "nothing".
    """
    path = os.environ.get("CHAOS_TABLE")
    if not path:
        return
    row = json.dumps({"fault": fault, "times": times, "outcome": outcome, "lost": lost})
    # One write, so that rows of several processes do not mix.
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(row + "\n")
