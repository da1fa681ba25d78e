"""The site's trainers beside each other: the table and the plot of ``docs/algorithms/local-training.md``.

Real training on real digits, of which each client has a few classes only, in synchronous rounds. Deterministic: the
same command gives the same table on the same type of machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import report
import torch
from comparison import tables
from comparison.curves import summary
from comparison.local_trainers import METHODS, ROUNDS, run_local
from comparison.style import COLOURS, save

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "algorithms"
FIGURES = HERE.parent / "build" / "benchmarks" / "local_training.json"
LINES = (
    ("black", "-"),
    ("sky", "-."),
    ("blue", ":"),
    ("green", "-"),
    ("orange", "--"),
    ("red", "--"),
    ("purple", "-"),
)
Curves = Mapping[str, Sequence[Sequence[float]]]
"""Accuracies by method, seed and round."""


def run(job: tuple[int, int, int]) -> list[float]:
    """A trial in a process of one thread: number of the method, seed, rounds."""
    torch.set_num_threads(1)
    method, seed, rounds = job
    return run_local(METHODS[method], seed, rounds)


def rows(curves: Curves, rounds: int) -> list[dict[str, str]]:
    """A row for each method: accuracy after some of the rounds, median and range over the seeds."""
    shown = sorted({max(1, rounds // 3), max(1, 2 * rounds // 3), rounds})
    return [
        {"": title, **{f"after {n} rounds (%)": _spread([curve[n] for curve in found]) for n in shown}}
        for title, found in curves.items()
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def draw(curves: Curves, path: Path) -> None:
    """Accuracy over rounds, a line for each method."""
    figure, axis = plt.subplots(figsize=(6.8, 3.2))
    for (title, found), (colour, line) in zip(curves.items(), LINES, strict=True):
        middle, low, high = summary(np.array(found))
        rounds = np.arange(len(middle))
        axis.plot(rounds, middle, color=COLOURS[colour], linestyle=line, label=title)
        axis.fill_between(rounds, low, high, color=COLOURS[colour], alpha=0.1, linewidth=0)
        axis.set_xlim(0, rounds[-1])
    axis.set_ylim(0, 100)
    axis.set_xlabel("round")
    axis.set_ylabel("test accuracy (%)")
    axis.set_title("Local trainers, synchronous rounds", loc="left")
    axis.legend(fontsize=8, bbox_to_anchor=(1.01, 0.5), loc="center left")
    figure.tight_layout()
    save(figure, path)


def main() -> int:
    """Run the trials, print the table, draw the plot and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures go")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of local-training.md and images/")
    parser.add_argument("--no-docs", action="store_true", help="write figures only")
    options = parser.parse_args()
    jobs = [(m, seed, options.rounds) for m in range(len(METHODS)) for seed in range(options.seeds)]
    # torch has been used here, so no fork.
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = list(pool.imap(run, jobs))
    curves = {
        method.title: found[m * options.seeds : (m + 1) * options.seeds] for m, method in enumerate(METHODS)
    }
    table = rows(curves, options.rounds)
    report.show("Local trainers", table)
    report.write(options.json, {"summary": [], "rounds": options.rounds, "curves": curves})
    if not options.no_docs:
        draw(curves, options.docs / "images" / "local-training.svg")
        page = options.docs / "local-training.md"
        if missing := tables.write(page, {"local-training": tables.markdown(table)}):
            print(f"{page} has no markers for {', '.join(missing)}.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
