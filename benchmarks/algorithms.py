"""Sync, Async, FedBuff, Compass and Queue beside each other: the tables and plots of ``docs/algorithms``.

Real training of a small network on real digits, of which each client has a few classes only, on the simulation's
virtual clock; real schedulers and aggregators. Every algorithm gets the virtual seconds that ``--rounds`` rounds of
Sync take. Trials are deterministic: the same command gives the same tables on the same type of machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import report
import torch
from comparison import tables
from comparison.bars import draw_idle
from comparison.conditions import CONDITIONS
from comparison.curves import draw_rounds, draw_time
from comparison.discounts import draw_discounts
from comparison.families import OPTIMISERS, ROBUST, STUDIES, run_study
from comparison.families import ROUNDS as FAMILY_ROUNDS
from comparison.family_plots import draw_family
from comparison.gantt import PICTURES, draw_schedule
from comparison.measures import Comparison, compare
from comparison.methods import METHODS, method_called
from comparison.trial import ROUNDS, Trial, run_trial

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs" / "algorithms"
FIGURES = HERE.parent / "build" / "benchmarks" / "algorithms.json"


@dataclass(frozen=True)
class Job:
    """A trial to run: a method under a condition, or a study of a family, by their names."""

    condition: str
    method: str
    seed: int
    rounds: int


def run(job: Job) -> Trial:
    """Run a job in a process of one thread."""
    torch.set_num_threads(1)
    if job.condition in (OPTIMISERS, ROBUST):
        study = next(one for one in STUDIES if (one.family, one.title) == (job.condition, job.method))
        return run_study(study, job.seed, job.rounds)
    condition = next(one for one in CONDITIONS if one.name == job.condition)
    return run_trial(condition, method_called(job.method), job.seed, job.rounds)


def jobs(options: argparse.Namespace) -> list[Job]:
    """All trials."""
    pairs = [(condition.name, method.name, options.rounds) for condition in CONDITIONS for method in METHODS]
    if options.conditions:
        pairs = [pair for pair in pairs if pair[0] in options.conditions]
    else:
        pairs += [(study.family, study.title, min(options.rounds, FAMILY_ROUNDS)) for study in STUDIES]
    return [
        Job(condition, method, seed, rounds)
        for seed in range(options.seeds)
        for condition, method, rounds in pairs
    ]


def run_all(wanted: Sequence[Job], processes: int) -> list[Trial]:
    """Run the trials, a line of progress for each; they come back in the order of ``wanted``."""
    trials: dict[tuple[str, str, int], Trial] = {}
    begun = time.monotonic()
    context = multiprocessing.get_context("spawn")  # torch has been used here, so no fork
    with context.Pool(processes) as pool:
        for trial in pool.imap_unordered(run, wanted):
            trials[trial.condition, trial.method, trial.seed] = trial
            passed = time.monotonic() - begun
            left = passed / len(trials) * (len(wanted) - len(trials))
            print(
                f"[{len(trials)}/{len(wanted)}, {passed:.0f} s, about {left:.0f} s left] {trial.condition}, "
                f"{trial.method}, seed {trial.seed}: {trial.accuracy[-1]:.1f} % after {trial.updates[-1]} updates",
                flush=True,
            )
    return [trials[job.condition, job.method, job.seed] for job in wanted]


def draw(trials: Sequence[Trial], rows: dict[tuple[str, str], Comparison], images: Path) -> None:
    """All plots for which there are trials, and those that need none."""
    draw_discounts(images / "staleness.svg")
    by_name = {picture.name: picture for picture in PICTURES}
    for name in ("sync", "async", "compass", "queue"):
        shown = [by_name[name], by_name["fedbuff"]] if name == "async" else [by_name[name]]
        draw_schedule(shown, images / f"schedule-{name}.svg")
    draw_time(trials, images / "accuracy-by-time.svg")
    draw_rounds(trials, images / "accuracy-by-updates.svg")
    draw_idle(rows, images / "idle.svg")
    if any(trial.condition == OPTIMISERS for trial in trials):
        draw_family(
            trials,
            OPTIMISERS,
            "Optimisers at the server, synchronous rounds",
            images / "server-optimisers.svg",
        )
        draw_family(trials, ROBUST, "One of 8 clients sends -4 times its update", images / "robust.svg")


def read(path: Path) -> tuple[list[Trial], float, dict[str, Any], int]:
    """The trials of an earlier run, the minutes that they took, the machine, and the rounds."""
    content = json.loads(path.read_text())
    trials = [Trial(**fields) for fields in content["trials"]]
    return trials, content["minutes"], content["machine"], content["rounds"]


def main() -> int:
    """Run the trials, print the tables, draw the plots and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the synchronous algorithm")
    parser.add_argument("--conditions", nargs="+", choices=[condition.name for condition in CONDITIONS])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=FIGURES, help="where the figures go")
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="draw and write from these figures, run nothing"
    )
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of results.md and images/")
    parser.add_argument("--no-docs", action="store_true", help="write figures only")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave the pool, so that it ends its processes
    if options.again:
        trials, minutes, facts, rounds = read(options.again)
    else:
        begun = time.monotonic()
        trials = run_all(jobs(options), options.processes)
        minutes, facts, rounds = (time.monotonic() - begun) / 60, machine.facts(), options.rounds
    conditions = [
        condition for condition in CONDITIONS if any(trial.condition == condition.name for trial in trials)
    ]
    here = {condition.name for condition in conditions}
    names = dict.fromkeys((trial.condition, trial.method) for trial in trials if trial.condition in here)
    rows = {(condition, method): compare(trials, condition, method) for condition, method in names}
    for condition in conditions:
        report.show(condition.title, tables.condition_rows(rows, condition))
    if not options.again:
        content = {
            "minutes": minutes,
            "rounds": rounds,
            "summary": [],
            "trials": [vars(trial) for trial in trials],
        }
        report.write(options.json, content)
    if not options.no_docs:
        draw(trials, rows, options.docs / "images")
        seeds = len({trial.seed for trial in trials})
        made = tables.parts(rows, tables.settings(seeds, rounds, minutes, facts))
        missing = tables.write(options.docs / "results.md", made)
        if missing:
            print(f"{options.docs / 'results.md'} has no markers for {', '.join(missing)}.", file=sys.stderr)
            return 1
        print(f"\nTables are in {options.docs / 'results.md'}, plots in {options.docs / 'images'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
