"""Every benchmark in turn: tables on the terminal, figures in ``build/benchmarks/*.json``, a summary at the end."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).parent
SCRIPTS: dict[str, tuple[str, ...]] = {
    "startup": (),
    "cold_start": (),
    "orchestration": (),
    "reduction": ("--repeats", "3"),
    "transfer": (),
    "coding": (),
    "stores": (),
    "globus_compute": (),
    "survival": (),
    "simulation": (),
    "algorithms": ("--seeds", "1", "--no-docs"),
    "local_training": ("--seeds", "1", "--no-docs"),
    "checkpoints": (),
}
TINY: dict[str, tuple[str, ...]] = {
    "startup": ("--repeats", "1"),
    "cold_start": ("--repeats", "1", "--rounds", "2", "--imports", "python -c pass"),
    "orchestration": ("--clients", "2", "--rounds", "2", "--repeats", "2"),
    "reduction": ("--megabytes", "1", "--clients", "2", "--threads", "1", "--repeats", "1"),
    "transfer": ("--clients", "2", "--megabytes", "1", "--rounds", "1"),
    "coding": ("--megabytes", "1", "--compressed", "1", "--repeats", "1"),
    "stores": ("--megabytes", "1", "--repeats", "1"),
    "globus_compute": ("--calls", "1", "--repeats", "1"),
    "survival": (
        "--records",
        "100",
        "--clients",
        "2",
        "--rounds",
        "2",
        "--megabytes",
        "0.1",
        "--repeats",
        "1",
    ),
    "simulation": ("--clients", "5", "10", "--each", "2", "--cases", "sync"),
    "algorithms": ("--seeds", "1", "--rounds", "1", "--conditions", "four-supercomputers", "--no-docs"),
    "local_training": ("--seeds", "1", "--rounds", "1", "--processes", "1", "--no-docs"),
    "checkpoints": ("--widths", "8", "--repeats", "1"),
}


def reduction_summary(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of ``reduction.py`` beside its targets: the weakest number of clients at the most threads."""
    threads = max(row["threads"] for row in figures["rows"])
    rows = [row for row in figures["rows"] if row["threads"] == threads]
    fold, everything = min(row["fold/mv"] for row in rows), min(row["all/mv"] for row in rows)
    anonymous = max(row["anon"] for row in figures["rows"])
    return [
        report.at_least(f"reduction alone, {threads} threads", "torch.mv", fold, 0.8),
        report.at_least(f"reply files to new model, {threads} threads", "torch.mv", everything, 0.5),
        report.verdict("anonymous memory of a reduction", "1 model", anonymous, 0.2),
    ]


def run_script(name: str, arguments: tuple[str, ...], target: Path) -> bool:
    """Run one benchmark; whether it ended well."""
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments, "--json", str(target)]
    return subprocess.run(command, check=False).returncode == 0


def main() -> int:
    """Run everything; 1 if a benchmark failed (a target that is missed is no failure)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument("--directory", type=Path, default=HERE.parent / "build" / "benchmarks")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that it works, not how fast")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if load > 0.5 and not options.tiny:
        print(
            f"The machine is busy (load average {load:.1f}): figures beside each other stand, times do not."
        )
    begun, failed, summary = time.monotonic(), [], []
    for number, name in enumerate(options.only, start=1):
        print(f"\n[{number}/{len(options.only)}, {time.monotonic() - begun:.0f} s] {name}", flush=True)
        target = options.directory / f"{name}.json"
        target.unlink(missing_ok=True)
        if not run_script(name, (TINY if options.tiny else SCRIPTS)[name], target):
            failed.append(name)
            continue
        figures = json.loads(target.read_text())
        summary += reduction_summary(figures) if name == "reduction" else figures["summary"]
    if summary:
        report.show("Summary" + (" (tiny sizes: the ratios mean nothing)" if options.tiny else ""), summary)
        (options.directory / "summary.md").write_text(report.markdown(summary))
    report.write(options.directory / "summary.json", {"summary": summary, "failed": failed})
    seconds = time.monotonic() - begun
    print(f"\nTook {seconds:.0f} s. Figures are in {options.directory}.")
    if failed:
        print(f"Failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
