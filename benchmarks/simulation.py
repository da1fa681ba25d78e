"""Schedulers on a virtual clock: events a second and memory, with few and with ten thousand clients.

Every case runs in a process of its own: clients of ``normal`` speeds, the stub learner, and the scheduler's own
aggregator. ``events/s`` counts what the scheduler heard. ``heap/s`` is the floor of the same run: that many events put
on a heap and taken off with nothing done for them. ``grows`` is how much resident memory rose during the second
half of the updates, as a share of all of it: flat means that a month takes no more than a day.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import report

PAGE = os.sysconf("SC_PAGE_SIZE")
COMPASS = {"max_local_steps": 200, "min_local_steps": 20, "speed_momentum": 0.9, "latest_time_factor": 1.2}
QUEUE = {"t_sync": 60.0, "theta": 5.0, "warm_up_steps": 20}
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "sync": ("SyncScheduler", {}, "FedAvgAggregator", {}),
    "sync, 10 %": ("SyncScheduler", {"clients_per_round": 0.1}, "FedAvgAggregator", {}),
    "async": ("AsyncScheduler", {}, "FedAsyncAggregator", {}),
    "buffered": ("AsyncScheduler", {}, "FedBuffAggregator", {"K": 10}),
    "compass": ("CompassScheduler", COMPASS, "FedCompassAggregator", {}),
    "queue": ("QueueScheduler", QUEUE, "FedQueueAggregator", {}),
}
MINUTES = 5.0
"""Ten thousand clients are to be simulated within so many."""


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class Memory:
    """Resident memory half way and at the end, told by the rows of a simulation."""

    def __init__(self, updates: int) -> None:
        self._half = updates // 2
        self._count = 0
        self.half = 0

    def add(self, row: object) -> None:
        from appfl_gc.simulation.timeline import WorkRow

        self._count += isinstance(row, WorkRow)
        if self._count == self._half and not self.half:
            self.half = resident()


def one(kind: str, clients: int, each: int) -> dict[str, Any]:
    """Simulate one case in this process."""
    from appfl_gc.aggregator.registry import make_aggregator, updates_per_aggregation
    from appfl_gc.scheduler.base import Counts
    from appfl_gc.scheduler.registry import make_scheduler
    from appfl_gc.simulation.builtin_profiles import builtin_profiles
    from appfl_gc.simulation.engine import simulate
    from appfl_gc.simulation.stub import stub_learner
    from appfl_gc.simulation.undisturbed import undisturbed

    name, kwargs, aggregator, aggregator_kwargs = CASES[kind]
    aggregator_kwargs = {**aggregator_kwargs, "num_clients": clients}
    buffered = updates_per_aggregation(aggregator, aggregator_kwargs)
    rounds = each * 10 if "clients_per_round" in kwargs else each
    counts = make_scheduler(name, 1, kwargs, 0, buffered).counts
    epochs = rounds if counts is Counts.ROUNDS else each * clients
    profiles = builtin_profiles("normal", clients)
    steps = {profile.client: 100 for profile in profiles}
    learner = stub_learner(profiles, make_aggregator(aggregator, aggregator_kwargs), steps)
    memory = Memory(each * clients)
    begun = time.perf_counter()
    scheduler = make_scheduler(name, epochs, kwargs, 0, buffered)
    with undisturbed():
        summary = simulate(scheduler, profiles, learner, record=memory.add)
    seconds = time.perf_counter() - begun
    end = resident()
    return {
        "case": kind,
        "clients": clients,
        "updates": summary.updates,
        "virtual h": summary.seconds / 3600,
        "s": seconds,
        "events/s": summary.events / seconds,
        "heap/s": heap_rate(min(summary.events, 200_000), clients),
        "MB": end / 1e6,
        "grows": max(0, end - memory.half) / end,
        "kept": sum(learner.kept),
    }


def heap_rate(events: int, waiting: int) -> float:
    """Events a second on a heap of ``waiting`` by itself."""
    chance = random.Random(0)
    heap = [(chance.random(), number) for number in range(waiting)]
    heapq.heapify(heap)
    begun = time.perf_counter()
    for number in range(events):
        at, _ = heapq.heappop(heap)
        heapq.heappush(heap, (at + chance.random(), number))
    return events / (time.perf_counter() - begun)


def in_a_process(kind: str, clients: int, each: int) -> dict[str, Any]:
    """The figures of one case."""
    command = [sys.executable, __file__, "--one", kind, "--clients", str(clients), "--each", str(each)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows beside their targets."""
    most = max(row["clients"] for row in rows)
    large = [row for row in rows if row["clients"] == most]
    fewest = min(row["clients"] for row in rows)
    speed = {(row["case"], row["clients"]): row["events/s"] for row in rows}
    slowdown = min(speed[row["case"], most] / speed[row["case"], fewest] for row in large)
    slowest = max(large, key=lambda row: row["s"])
    what = f"{most:,} simulated clients, {slowest['updates']:,} updates ({slowest['case']})"
    return [
        report.verdict(what, f"{MINUTES:g} minutes", slowest["s"] / 60 / MINUTES, 1),
        report.verdict(
            "memory that its second half adds", "all memory", max(r["grows"] for r in large), 0.05
        ),
        report.at_least(f"events a second, {most:,} clients", f"{fewest:,} clients", slowdown, 0.5),
    ]


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--each", type=int, default=10, help="updates of each client, on average")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--one", choices=list(CASES), help="only this case, as JSON")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.clients[0], options.each)))
        return
    most = max(options.clients)
    rows = [
        # Few clients do as many updates as many, as far as that takes no more than a thousand of each.
        in_a_process(kind, clients, min(1000, options.each * most // clients))
        for kind in options.cases
        for clients in options.clients
    ]
    report.show("Simulated clients", rows)
    report.write(options.json, {"rows": rows, "summary": summarised(rows)})


if __name__ == "__main__":
    main()
