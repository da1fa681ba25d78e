"""What a call and a round cost when the sites do nothing, beside the engine and a process pool by themselves.

Calls (seconds a batch, best and median of several, all interleaved; as many single-worker pools and engines as
there are slots):

* ``process pool``: ``concurrent.futures``, a function that returns None;
* ``raw engine``: ``ProcessPoolEngine`` of globus_compute_endpoint, the same function as source, arguments and
  result as JSON;
* ``local plane``: ``trainer.sample_size`` through ``LocalPlane``: message, slot, entry function, policy, log, outbox.

Rounds go through the whole runner: scheduler, journal (on disk before every batch of calls), a model of 0.1 MB down
and an update of 0.1 MB up for each client, gate, FedAvg, metrics and logs. Their trainer returns what it received.
``site ms`` is what the site needs for such a call by itself, in this process; a slot does that for each of its
clients in turn, so that ``site / slots`` of it are in every call of a round and the rest is orchestration.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import secrets
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import report
from federation import idle_federation
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Task
from globus_compute_endpoint.engines import GCFuture, ProcessPoolEngine
from globus_compute_sdk.serialize import ComputeSerializer

from appfl_gc import run
from appfl_gc.config import ClientConfig, Federation
from appfl_gc.control.local.engine import EngineSettings
from appfl_gc.control.local.plane import LocalPlane
from appfl_gc.control.message import RESULT_SERIALIZERS, unpack_result
from appfl_gc.payload import codec
from appfl_gc.payload.stores import FileStore
from appfl_gc.protocol.call import Call
from appfl_gc.runner.calls import CallFactory
from appfl_gc.site.building import build_model
from appfl_gc.site.entry import entry_requirements
from appfl_gc.site.handle import handle
from appfl_gc.site.paths import SITE_HOME
from appfl_gc.site.source_loader import SourceLoader
from appfl_gc.version import VERSION

TARGET = 3.0
TASK = ComputeSerializer.pack_buffers(["st\nnothing:def nothing():\n    return None\n", "11\n[]", "11\n{}"])
Batch = Callable[[int], None]


def nothing() -> None:
    """The no-op of the process pool."""


def pool_batch(slots: int, stack: ExitStack) -> Batch:
    context = multiprocessing.get_context("spawn")
    pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in range(slots)]

    def batch(calls: int) -> None:
        futures = [pools[i % slots].submit(nothing) for i in range(calls)]
        for future in futures:
            future.result()

    return batch


def engine_batch(slots: int, directory: Path, stack: ExitStack) -> Batch:
    engines = []
    for number in range(slots):
        engine = ProcessPoolEngine(max_workers=1, mp_context=multiprocessing.get_context("spawn"))
        engine.start(endpoint_id=uuid.uuid4(), run_dir=str(directory / f"engine-{number}"))
        stack.callback(engine.shutdown, block=True)
        engines.append(engine)

    def submit(engine: ProcessPoolEngine) -> Future[bytes]:
        task_id = uuid.uuid4()
        future: Future[bytes] = GCFuture(gc_task_id=task_id)
        packed = messagepack.pack(Task(task_id=task_id, task_buffer=TASK))
        engine.submit(future, packed, {}, result_serializers=RESULT_SERIALIZERS)
        return future

    def batch(calls: int) -> None:
        futures = [submit(engines[i % slots]) for i in range(calls)]
        for future in futures:
            unpack_result(future.result())

    return batch


class IdleCalls:
    """Calls to the clients of an idle federation."""

    def __init__(self, federation: Federation, directory: Path) -> None:
        self.clients = federation.clients
        first = self.clients[0]
        loader = SourceLoader(directory)
        model = build_model(first.model_configs.plain(), loader.load(first.sources["model"]))
        state = model.state_dict()
        threads = {client.client_id: 1 for client in self.clients}
        self._calls = CallFactory("benchmark", 1, threads, codec.spec_of(state), {}, device_fallback=False)
        self._store = FileStore(directory / "payloads")
        self._model = self._store.put(codec.Encoding(state))
        self._round = itertools.count(1)

    def sample_size(self, client: ClientConfig) -> Call:
        call = replace(self._calls.hello(client), channel="trainer.sample_size", nonce=secrets.token_hex(16))
        return replace(call, identity=replace(call.identity, round=next(self._round)))

    def train(self, client: ClientConfig) -> Call:
        number = next(self._round)
        call = self._calls.train(client, number, 0, {}, acknowledged=number - 1, state_of=0)
        grant = self._store.grant([self._model], self._model.size)
        return replace(call, payloads={"model": self._model}, args={**call.args, "grant": grant})


def plane_batch(slots: int, calls: IdleCalls, directory: Path, stack: ExitStack) -> Batch:
    settings = EngineSettings("ProcessPoolEngine", directory, directory / "site", directory / "worker.log")
    plane = LocalPlane([client.client_id for client in calls.clients], slots, settings)
    stack.callback(plane.close)
    clients = itertools.cycle(calls.clients)

    def batch(count: int) -> None:
        futures = [plane.submit(calls.sample_size(next(clients))) for _ in range(count)]
        for future in futures:
            reply = future.result()
            if reply.error is not None:
                raise RuntimeError(str(reply.error))

    return batch


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_calls(sizes: Iterable[int], repeats: int, slots: int) -> dict[str, dict[int, list[float]]]:
    """Seconds of every batch, by name and calls in the batch."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        federation = stack.enter_context(idle_federation(slots, 1, 1000))
        batches = {
            "process pool": pool_batch(slots, stack),
            "raw engine": engine_batch(slots, directory, stack),
            "local plane": plane_batch(slots, IdleCalls(federation, directory), directory, stack),
        }
        for batch in batches.values():
            batch(4 * slots)
        seconds: dict[str, dict[int, list[float]]] = {name: {size: [] for size in sizes} for name in batches}
        for size in sizes:
            for _ in range(repeats):
                for name, batch in batches.items():
                    seconds[name][size].append(timed(lambda: batch(size)))  # noqa: B023  called at once
        return seconds


def time_site(model_bytes: int, repeats: int) -> list[float]:
    """Seconds of a training call at a site, answered in this process."""
    with tempfile.TemporaryDirectory() as name, idle_federation(1, 1, model_bytes) as federation:
        os.environ[SITE_HOME] = str(Path(name) / "site")
        calls = IdleCalls(federation, Path(name))
        seconds = []
        for _ in range(repeats + 2):
            message = calls.train(federation.clients[0]).to_json()
            start = time.perf_counter()
            reply = handle(message, entry_requirements(VERSION))
            seconds.append(time.perf_counter() - start)
            if reply["error"] is not None:
                raise RuntimeError(str(reply["error"]))
        return seconds[2:]


def time_rounds(clients: int, rounds: int, model_bytes: int, slots: int) -> list[float]:
    """Seconds from one new global model to the next, after the second."""
    with idle_federation(clients, rounds + 2, model_bytes, slots) as federation:
        result = run(federation=federation)
        if result.error is not None:
            raise RuntimeError(str(result.error))
        rows = map(json.loads, (result.run_dir / "metrics.jsonl").read_text().splitlines())
        ends = [row["at"] for row in rows if row["kind"] == "round"]
    return [after - before for before, after in itertools.pairwise(ends)][1:]


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=40, help="batches of calls")
    parser.add_argument("--model-bytes", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    slots = options.slots

    sizes = [1, *options.clients]
    seconds = time_calls(sizes, options.repeats, slots)
    call_rows: list[dict[str, Any]] = []
    for size in sizes:
        engine = statistics.median(seconds["raw engine"][size])
        for name, by_size in seconds.items():
            figures = report.spread([second / size for second in by_size[size]])
            ratio = statistics.median(by_size[size]) / engine
            call_rows.append({"call through": name, "at once": size, **figures, "x raw engine": ratio})
    report.show(f"No-op calls, ms per call, {slots} workers", call_rows)

    site = statistics.median(time_site(options.model_bytes, 10 * options.repeats))
    round_rows = []
    for clients in options.clients:
        took = time_rounds(clients, options.rounds, options.model_bytes, slots)
        second = statistics.median(took)
        engine = statistics.median(seconds["raw engine"][clients]) / clients
        rest = second / clients - site / slots
        round_rows.append(
            {
                "clients": clients,
                "round s": second,
                "best s": min(took),
                "call ms": 1000 * second / clients,
                "site ms": 1000 * site,
                "orchestration ms": 1000 * rest,
                "engine ms": 1000 * engine,
                "orchestration x": rest / engine,
                "round x": second / clients / engine,
            }
        )
    report.show(f"No-op rounds, model of {options.model_bytes / 1e6:g} MB, {slots} workers", round_rows)
    largest = options.clients[-1]
    plane = next(r for r in call_rows if r["call through"] == "local plane" and r["at once"] == largest)
    summary = [
        report.verdict(
            f"no-op call through the local plane, {largest} at once",
            "raw engine",
            plane["x raw engine"],
            TARGET,
        ),
        *(
            report.verdict(
                f"orchestration per call, round of {row['clients']}",
                "raw engine",
                row["orchestration x"],
                TARGET,
            )
            for row in round_rows
        ),
        *(
            report.verdict(f"whole round of {row['clients']}", "raw engine", row["round x"])
            for row in round_rows
        ),
    ]
    report.write(options.json, {"calls": call_rows, "rounds": round_rows, "summary": summary})


if __name__ == "__main__":
    main()
