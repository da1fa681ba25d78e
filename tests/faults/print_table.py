"""Print the table of what was broken, from the rows that the tests have written: print_table.py FILE."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path


def table(lines: list[str]) -> str:
    """The rows in ``lines``, as Markdown; those of one fault, outcome and loss are one row."""
    times: Counter[tuple[str, str, str]] = Counter()
    for row in map(json.loads, lines):
        times[row["fault"], row["outcome"], row["lost"]] += row["times"]
    head = ["| Fault | Times | Outcome | Lost work |", "|---|--:|---|---|"]
    body = [
        f"| {fault} | {count} | {outcome} | {lost} |"
        for (fault, outcome, lost), count in sorted(times.items())
    ]
    return "\n".join([*head, *body])


if __name__ == "__main__":
    file = Path(sys.argv[1])
    print(table(file.read_text().splitlines() if file.exists() else []))
