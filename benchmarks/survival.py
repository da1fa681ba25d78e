"""What surviving costs: writing the journal, keeping updates that have arrived, and reading it all back at a resume.

``write``: the journal's records against as many bytes given to the kernel by themselves, and its batches put on the
disk against the same number of fsync. ``keep``: an update that lands and is kept, against one that lands. ``resume``:
reading a journal and bringing scheduler and failure policy to where they were, against parsing its lines as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report


def best(repeats: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest of ``repeats``."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def play(directory: Path, clients: int, rounds: int) -> Path:
    """The journal of a run without a model: ``clients`` deliver in each of ``rounds``."""
    from appfl_gc.protocol.measures import Timing
    from appfl_gc.protocol.schedule import (
        Aggregate,
        Aggregated,
        Arrived,
        Dispatch,
        Event,
        Started,
        UpdateId,
        UpdateMeta,
    )
    from appfl_gc.protocol.schedule_json import meta_to_json, step_to_json
    from appfl_gc.runner.clock import RunClock
    from appfl_gc.runner.journal import POLICY, STEP, Journal
    from appfl_gc.runner.judge import Judge
    from appfl_gc.runner.policy.decisions import Accepted, Folded, Met, Sent
    from appfl_gc.runner.policy.machine import FailurePolicy
    from appfl_gc.runner.policy.settings import PolicySettings
    from appfl_gc.scheduler.sync import SyncScheduler

    names = [f"Client{number}" for number in range(clients)]
    path = directory / "journal.jsonl"
    scheduler = SyncScheduler(rounds)
    with Journal(path) as journal:
        judge = Judge(
            FailurePolicy(names, PolicySettings(), rounds=True, round_size=clients), RunClock(), journal
        )
        journal.append(
            0.0, "run", run="bench", version="0", seed=1, clients=names, sources={}, model="none", checksum=""
        )
        for name in names:
            journal.append(0.0, "hello", client=name, sample_size=100, threads=1)
            judge.hear(Met(name))
        todo: list[Event] = [Started(tuple(names))]
        while todo:
            event = todo.pop(0)
            actions = scheduler.step(0.0, event)
            journal.append(
                0.0, STEP, now=0.0, event=step_to_json(event), actions=[step_to_json(one) for one in actions]
            )
            for action in actions:
                if isinstance(action, Dispatch):
                    update = UpdateId(action.client, action.dispatch)
                    judge.hear(Sent(update, action.version))
                    meta = UpdateMeta(
                        update, action.version, 100, 5, Timing(1.0, 2.0, 0.5, 1.5), {"val_loss": 0.5}
                    )
                    journal.append(
                        0.0,
                        "dispatch",
                        client=action.client,
                        round=action.dispatch,
                        attempt=1,
                        version=action.version,
                        nonce="0" * 32,
                        threads=1,
                        args={},
                        state_of=0,
                        acknowledged=0,
                        grant={"scheme": "inline", "limit": 1},
                    )
                    reference = {"scheme": "inline", "locator": "", "size": 1, "checksum": "", "codec": ""}
                    journal.append(
                        0.0,
                        "arrived",
                        client=action.client,
                        round=action.dispatch,
                        meta=meta_to_json(meta),
                        reference=reference,
                        kept="none",
                        kept_checksum="",
                    )
                    judge.hear(Accepted(update))
                    todo.append(Arrived(meta))
                elif isinstance(action, Aggregate):
                    version = scheduler._roster.version + 1
                    journal.append(
                        0.0,
                        "aggregated",
                        version=version,
                        model=f"global-{version}",
                        checksum="",
                        updates=[[one.client, one.dispatch, behind] for one, behind in action.updates],
                    )
                    journal.append(
                        0.0, "round", round=version, updates=0, metrics={}, best=None, best_by=None
                    )
                    judge.hear(Folded(version))
                    todo = [Aggregated(version)]
    assert POLICY in path.read_text()
    return path


def resume_row(clients: int, rounds: int, repeats: int) -> dict[str, Any]:
    """Reading a journal back against parsing it."""
    from appfl_gc.runner.policy.machine import FailurePolicy
    from appfl_gc.runner.policy.settings import PolicySettings
    from appfl_gc.runner.replay import first_difference, policy_steps, recorded_steps
    from appfl_gc.runner.resume.reading import read_past
    from appfl_gc.runner.run_directory import RunDirectory
    from appfl_gc.scheduler.sync import SyncScheduler

    with tempfile.TemporaryDirectory() as place:
        directory = RunDirectory(Path(place))
        path = play(directory.path, clients, rounds)
        names = [f"Client{number}" for number in range(clients)]

        def bring_back() -> None:
            past = read_past(directory)
            assert past.version == rounds and past.finished
            assert first_difference(recorded_steps(path), SyncScheduler(rounds)) is None
            policy = FailurePolicy(names, PolicySettings(), rounds=True, round_size=clients)
            assert first_difference(policy_steps(path), policy) is None

        def parse() -> None:
            for line in path.open("rb"):
                json.loads(line[9:])

        back, floor = best(repeats, bring_back), best(repeats, parse)
        records = sum(1 for _ in path.open("rb"))
        return {
            "clients": clients,
            "rounds": rounds,
            "records": records,
            "MB": path.stat().st_size / 1e6,
            "s": back,
            "us/record": 1e6 * back / records,
            "times JSON": back / floor,
        }


def write_rows(records: int, repeats: int) -> list[dict[str, Any]]:
    """Appending and flushing against the kernel's own calls."""
    from appfl_gc.runner.journal import Journal

    fields = {"client": "Client1", "round": 3, "args": {"local_steps": 100}, "nonce": "0" * 32}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "journal"

        def append(every: int) -> None:
            path.unlink(missing_ok=True)
            with Journal(path) as journal:
                for number in range(records):
                    journal.append(1.0, "dispatch", **fields)
                    if every and number % every == 0:
                        journal.flush()

        def bare(every: int) -> None:
            descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            line = b"x" * 120
            for number in range(records):
                os.write(descriptor, line)
                if every and number % every == 0:
                    os.fsync(descriptor)
            os.close(descriptor)

        rows = []
        for what, every in (("appended", 0), ("put on the disk by tens", 10)):
            ours = statistics.median(best(1, lambda every=every: append(every)) for _ in range(repeats))
            floor = statistics.median(best(1, lambda every=every: bare(every)) for _ in range(repeats))
            rows.append(
                {
                    "records": what,
                    "us/record": 1e6 * ours / records,
                    "floor us": 1e6 * floor / records,
                    "times": ours / floor,
                }
            )
        return rows


def keep_row(megabytes: float, updates: int, repeats: int) -> dict[str, Any]:
    """Landing and keeping against landing."""
    import torch

    from appfl_gc.payload.arena import Arena
    from appfl_gc.payload.codec import Encoding, spec_of
    from appfl_gc.payload.stores import FileStore

    state = {"w": torch.randn(int(megabytes * 250_000))}
    with tempfile.TemporaryDirectory(dir=".") as place:
        store = FileStore(Path(place) / "payloads")
        references = [store.put(Encoding(state)) for _ in range(updates)]

        def land(keep: bool) -> None:
            with Arena(spec_of(state), updates, store.directory) as arena:
                for slot, reference in enumerate(references):
                    arena.land(slot, reference, store)
                    if keep:
                        arena.keep(slot, store.directory / f"kept-{slot}")

        both, alone = best(repeats, lambda: land(True)), best(repeats, lambda: land(False))
        return {
            "MB": megabytes,
            "updates": updates,
            "landed ms": 1e3 * alone / updates,
            "and kept ms": 1e3 * both / updates,
            "times": both / alone,
        }


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 200])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[0.1, 10, 100])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    writes = write_rows(options.records, options.repeats)
    report.show("The journal's records", writes)
    keeps = [keep_row(size, 8, options.repeats) for size in options.megabytes]
    report.show("Updates that are kept", keeps)
    resumes = [resume_row(clients, options.rounds, options.repeats) for clients in options.clients]
    report.show("A journal brought back", resumes)
    summary = [
        report.verdict(
            "an update that lands and is kept", "one that lands", max(row["times"] for row in keeps), 1.5
        ),
        report.verdict(
            "a journal brought back", "its lines as JSON", max(row["times JSON"] for row in resumes), 15
        ),
    ]
    report.write(options.json, {"writes": writes, "keeps": keeps, "resumes": resumes, "summary": summary})


if __name__ == "__main__":
    main()
