"""Every benchmark runs and prints its table; how fast things are is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_benchmark_runs_and_leaves_its_figures(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "run_all.py"), "--tiny", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    scripts = {path.stem for path in BENCHMARKS.glob("*.py") if "argparse" in path.read_text()} - {"run_all"}
    assert {path.stem for path in tmp_path.glob("*.json")} == scripts | {"summary"}
    for title in (
        "Start of a command",
        "Cold start of a site",
        "No-op rounds",
        "Rounds with a model",
        "A payload of 1 MB in mapped memory",
        "Compressors",
        "Payloads over inline",
        "Payloads over file",
        "A journal brought back",
        "Simulated clients",
        "Summary",
    ):
        assert f"\n{title}" in done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["machine"]["cores"] >= 1
    built = next(row for row in summary["summary"] if row["what"].startswith("datasets built"))
    assert built["ratio"] == 1
