"""What must hold of a run whose servers were killed: the job, and what is looked at afterwards."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appfl_gc.config import load
from appfl_gc.protocol.schedule import Aggregate
from appfl_gc.runner import algorithms
from appfl_gc.runner.journal import read_journal
from appfl_gc.runner.replay import first_difference, recorded_steps
from tests.faults.nursery import Job, Nursery
from tests.small_federation import DATASET, SmallFederation

COUNTED = DATASET.replace(
    "    return TensorDataset(x, y), ",
    "    data = TensorDataset(x, y)\n    data.client = client_id\n    return data, ",
)
TRAINER = """\
import os

from appfl_gc.site.trainer.MODULE import BASE


class Counted(BASE):
    def train(self, **kwargs):
        self.note("begun", kwargs["round"])
        self.die_once(kwargs["round"])
        result = super().train(**kwargs)
        self.note("done", kwargs["round"])
        return result

    def die_once(self, round_):
        with open("TRAININGS") as lines:
            first = lines.read().count(f"begun {self.task(round_)}\\n") == 1
        if first and self.task(round_) == "DIES":
            os._exit(1)

    def task(self, round_):
        return f"Client{self.train_dataset.client + 1} {round_}"

    def note(self, what, round_):
        line = f"{what} {self.task(round_)}\\n"
        file = os.open("TRAININGS", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line.encode())
        os.close(file)
"""

Task = tuple[str, int]
"""A client and its dispatch."""


def counted(
    directory: Path,
    trainings: Path,
    clients: int = 3,
    rounds: int = 5,
    base: str = "vanilla.VanillaTrainer",
    dies: str = "",
    **server: Any,
) -> SmallFederation:
    """A federation whose trainer, a ``base``, adds a line to ``trainings`` whenever it begins or ends.

    The worker of the task ``dies``, such as ``Client2 2`` in round 2, ends when it trains that for the first time.
    """
    module, _, name = base.partition(".")
    trainer = TRAINER.replace("MODULE", module).replace("BASE", name).replace("DIES", dies)
    return SmallFederation(
        directory,
        clients=clients,
        rounds=rounds,
        dataset=COUNTED,
        train={
            "trainer": "Counted",
            "trainer_path": "./trainer.py",
            "num_threads": 1,
            "num_local_steps": 2,
        },
        server=server,
        files={"trainer.py": trainer.replace("TRAININGS", str(trainings))},
    )


@dataclass(frozen=True)
class Bench:
    """A nursery, the job that its servers do, and what the job has led to undisturbed.

    Attributes:
        nursery: starts the servers.
        federation: of the job.
        job: what a server is started for.
        trainings: a line for each training that began or ended.
        runs: where run directories lie, each in a folder of its own.
        bits: of the final model.
        kinds: of the journal's records.
        failures: trainings that the job itself begins again.
    """

    nursery: Nursery
    federation: SmallFederation
    job: Job
    trainings: Path
    runs: Path
    bits: bytes = b""
    kinds: tuple[str, ...] = ()
    failures: int = 0

    @classmethod
    def make(
        cls,
        nursery: Nursery,
        trainings: Path,
        federation: SmallFederation,
        runs: Path | None = None,
        **job: Any,
    ) -> Bench:
        """Write the files, and run the job once undisturbed; runs lie in ``runs``."""
        server, clients = federation.write()
        bench = cls(
            nursery,
            federation,
            Job(server, clients, Path(), **job),
            trainings,
            runs or federation.directory / "runs",
        )
        calm = bench.fresh("undisturbed")
        served = nursery.run(calm.job)
        assert served.outcome == "finished", served
        kinds = tuple(record.kind for record in read_journal(calm.run_dir / "journal.jsonl"))
        return replace(
            bench,
            bits=(calm.run_dir / "model.safetensors").read_bytes(),
            kinds=kinds,
            failures=calm.begun_again(),
        )

    @property
    def records(self) -> int:
        """Of the journal of the undisturbed run."""
        return len(self.kinds)

    def fresh(self, name: str) -> Bench:
        """The same with an output directory of its own, and nothing trained yet."""
        self.trainings.unlink(missing_ok=True)
        output = self.runs / name
        self.nursery.inside(output).mkdir(parents=True)
        return replace(self, job=replace(self.job, output=output))

    @property
    def run_dir(self) -> Path:
        """The directory of the one run that was begun."""
        (found,) = self.nursery.inside(self.job.output).iterdir()
        return found

    def begun(self) -> Counter[Task]:
        """How often each task was begun."""
        return self._noted("begun")

    def done(self) -> Counter[Task]:
        """How often each task was trained to its end."""
        return self._noted("done")

    def begun_again(self) -> int:
        """Trainings that were begun though their task had been begun before, and the job does not do that itself."""
        begun = self.begun()
        return sum(begun.values()) - len(begun) - self.failures

    def _noted(self, what: str) -> Counter[Task]:
        if not self.trainings.exists():
            return Counter()
        words = [line.split() for line in self.trainings.read_text().splitlines()]
        return Counter((client, int(round_)) for kind, client, round_ in words if kind == what)

    def arrived(self) -> set[Task]:
        """The tasks whose updates the journal has."""
        records = read_journal(self.run_dir / "journal.jsonl")
        return {
            (record.fields["client"], record.fields["round"])
            for record in records
            if record.kind == "arrived"
        }

    def kept_by_sites(self) -> set[Task]:
        """The tasks whose answers lie in an outbox."""
        found = set()
        for path in (self.run_dir / "local" / "site" / "outbox").glob("*/*/*.json"):
            identity = json.loads(path.read_text())["reply"]["identity"]
            found.add((str(identity["client"]), int(identity["round"])))
        return found

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows of ``metrics.jsonl`` of a kind."""
        lines = (self.run_dir / "metrics.jsonl").read_text().splitlines()
        return [row for row in map(json.loads, lines) if row["kind"] == kind]


@dataclass(frozen=True)
class AtDeath:
    """What there was when a server had died."""

    arrived: frozenset[Task]
    kept: frozenset[Task]
    begun: Counter[Task]
    metrics: tuple[str, ...]
    journal: bytes

    def without_files(self) -> AtDeath:
        """The same where files of the run directory were lost after it."""
        return replace(self, metrics=(), journal=b"")

    @classmethod
    def of(cls, bench: Bench) -> AtDeath:
        """Look at the run of ``bench`` now."""
        metrics = bench.run_dir / "metrics.jsonl"
        arrived = bench.arrived()
        # A row is written before the record that it belongs to.
        rows = metrics.read_text().splitlines() if metrics.exists() else []
        rounds = sum(record.kind == "round" for record in read_journal(bench.run_dir / "journal.jsonl"))
        known = [
            row
            for row, fields in ((row, json.loads(row)) for row in rows if row.endswith("}"))
            if (
                fields["round"] <= rounds
                if fields["kind"] == "round"
                else (fields["client"], fields["round"]) in arrived
            )
        ]
        journal = (bench.run_dir / "journal.jsonl").read_bytes()
        return cls(
            frozenset(arrived),
            frozenset(bench.kept_by_sites()),
            bench.begun(),
            tuple(known),
            journal[: journal.rfind(b"\n") + 1],
        )


def check_replays(bench: Bench) -> None:
    """The whole journal, over all its servers, replays to the same actions; no update is folded twice."""
    configs = load(bench.job.server, bench.job.clients)
    scheduler = algorithms.scheduler_of(configs, None, configs.clients[0].model_configs.seed)
    steps = list(recorded_steps(bench.run_dir / "journal.jsonl"))
    assert first_difference(steps, scheduler) is None
    decided = [
        update
        for step in steps
        for action in step.actions
        if isinstance(action, Aggregate)
        for update, _ in action.updates
    ]
    assert len(decided) == len(set(decided))
    folded = [
        (client, dispatch)
        for record in read_journal(bench.run_dir / "journal.jsonl")
        if record.kind == "aggregated"
        for client, dispatch, _ in record.fields["updates"]
    ]
    assert sorted(folded) == sorted((update.client, update.dispatch) for update in decided)


def check_nothing_repeated(bench: Bench, *deaths: AtDeath) -> None:
    """What was done when a server died was not done again, and what was written down stays as it was."""
    begun, metrics = bench.begun(), set((bench.run_dir / "metrics.jsonl").read_text().splitlines())
    journal = (bench.run_dir / "journal.jsonl").read_bytes()
    for death in deaths:
        assert all(begun[task] == death.begun[task] for task in death.arrived | death.kept)
        assert set(death.metrics) <= metrics
        assert journal.startswith(death.journal)
    # Only what was in the works when a server died was begun again.
    assert all(count <= 1 + len(deaths) + bench.failures for count in begun.values())
    by_client = [(row["client"], row["round"]) for row in bench.rows("client")]
    assert len(by_client) == len(set(by_client))
    rounds = [row["round"] for row in bench.rows("round")]
    assert rounds == list(range(1, len(rounds) + 1))
    assert not (bench.run_dir / "payloads").exists()


def check_as_undisturbed(bench: Bench, *deaths: AtDeath) -> None:
    """A synchronous run that has ended is what it would have been, and nothing that was done was done again."""
    assert (bench.run_dir / "model.safetensors").read_bytes() == bench.bits
    clients = [f"Client{number + 1}" for number in range(bench.federation.clients)]
    tasks = {(client, round_) for client in clients for round_ in range(1, bench.federation.rounds + 1)}
    assert set(bench.begun()) == set(bench.done()) == tasks
    assert {(row["client"], row["round"]) for row in bench.rows("client")} == tasks
    assert len(bench.rows("round")) == bench.federation.rounds
    check_nothing_repeated(bench, *deaths)
    check_replays(bench)
