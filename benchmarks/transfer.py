"""A round in which every client takes a large model and sends one back, beside copying the same bytes.

``round s`` is from one new global model to the next through the whole runner: the sites read the model and write
their updates, the server checks (checksum, header, every number finite), folds and writes the new model.
``moved`` counts each client's model down and update up. The floors are those bytes copied in memory (warm) and
from file to file. ``anon`` is the peak of the runner's anonymous memory above its start, in models: the model
that it builds at the start is one; it does not grow with the number of clients.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import report
import torch
from federation import idle_federation
from reduction import PeakOfAnonymousMemory

from appfl_gc import run


def time_rounds(clients: int, rounds: int, model_bytes: int) -> tuple[list[float], int]:
    """Seconds of the rounds after the first, and the peak of anonymous memory above the start, in bytes."""
    with idle_federation(clients, rounds + 1, model_bytes) as federation, PeakOfAnonymousMemory() as memory:
        result = run(federation=federation)
        if result.error is not None:
            raise RuntimeError(str(result.error))
        rows = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
        ends = [row["at"] for row in rows if row["kind"] == "round"]
    return [after - before for before, after in itertools.pairwise(ends)], memory.peak


def time_memory_copies(copies: int, size: int, repeats: int) -> float:
    """Best seconds for ``copies`` copies of ``size`` bytes."""
    source, target = torch.ones(size // 4), torch.zeros(size // 4)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(copies):
            target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return best


def time_file_copies(copies: int, size: int, repeats: int) -> float:
    """Best seconds for ``copies`` copies of a file of ``size`` bytes, in the page cache."""
    best = float("inf")
    with tempfile.TemporaryDirectory(prefix="appfl-gc-bench-") as name:
        source, target = Path(name) / "source", Path(name) / "target"
        source.write_bytes(bytes(size))
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(copies):
                target.unlink(missing_ok=True)
                shutil.copyfile(source, target)
            best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    size = int(options.megabytes * 1e6) // 4 * 4
    rows = []
    for clients in options.clients:
        took, peak = time_rounds(clients, options.rounds, size)
        second = statistics.median(took)
        memory = time_memory_copies(2 * clients, size, options.rounds)
        files = time_file_copies(2 * clients, size, options.rounds)
        rows.append(
            {
                "clients": clients,
                "moved MB": 2 * clients * size / 1e6,
                "round s": second,
                "best s": min(took),
                "MB/s": 2 * clients * size / 1e6 / second,
                "memcpy s": memory,
                "file copy s": files,
                "x memcpy": second / memory,
                "x file copy": second / files,
                "anon": peak / size,
            }
        )
    report.show(f"Rounds with a model of {options.megabytes:g} MB", rows)
    last = rows[-1]
    summary = [
        report.verdict(
            f"round of {last['clients']} x {options.megabytes:g} MB", "file copies", last["x file copy"]
        ),
        report.verdict(f"round of {last['clients']} x {options.megabytes:g} MB", "memcpy", last["x memcpy"]),
        report.verdict(
            f"runner's anonymous memory, {last['clients']} clients", "1 model", last["anon"], 1 + 0.2
        ),
    ]
    report.write(options.json, {"megabytes": options.megabytes, "rows": rows, "summary": summary})


if __name__ == "__main__":
    main()
