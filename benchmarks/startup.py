"""Wall time of the commands that must answer at once, beside an interpreter that does nothing."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import report

RESOURCES = Path(__file__).parents[1] / "examples" / "resources" / "config_gc" / "mnist"
LIMIT = 0.5


def commands() -> dict[str, list[str]]:
    """What is timed, by name; the floor comes first."""
    program = [sys.executable, "-m", "appfl_gc.cli.main"]
    validate = [
        *("validate", "--server_config", str(RESOURCES / "server_fedavg.yaml")),
        *("--client_config", str(RESOURCES / "clients.yaml")),
    ]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "appfl-gc --help": [*program, "--help"],
        "appfl-gc validate": [*program, *validate],
    }


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in commands()}
    for _ in range(options.repeats):
        for name, command in commands().items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    floor = statistics.median(seconds["python -c pass"])
    rows = [
        {"command": name, **report.spread(took), "x floor": statistics.median(took) / floor}
        for name, took in seconds.items()
    ]
    report.show(f"Start of a command, median of {options.repeats}", rows)
    summary = [
        report.verdict(name, "0.5 s", statistics.median(seconds[name]) / LIMIT, 1)
        for name in list(seconds)[1:]
    ]
    report.write(options.json, {"rows": rows, "summary": summary})


if __name__ == "__main__":
    main()
