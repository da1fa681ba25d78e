"""Reply bytes on disk to the file of the new global model, beside what the machine can do in the same run.

For each number of clients K it times, in GB/s of client bytes (best of several, interleaved, page cache warm):

* ``read``: summing the K rows, the read bandwidth of that many threads;
* ``mv``: ``torch.mv`` over the [K, N] float32 matrix of the arena's rows, into memory;
* ``mv*``: the same in blocks on our threads;
* ``land``: mapping every reply file into the arena with checksum, header and finiteness;
* ``fold``: ``FedAvgAggregator.reduce`` block by block into memory, without a file;
* ``reduce``: ``reduction.aggregate`` with it, from the arena to a new file in the page cache;
* ``all``: ``land`` and then ``reduce``;
* ``norm``: the norm of each update, which ``max_update_norm`` asks for;
* ``FedAdam``, ``Krum``, ``Median``: as ``reduce`` with these aggregators, as a share of its rate. FedAdam reads and
  writes two rows of state beside the model, Krum reads the updates twice.

``write_ms`` is what writing a new file of the model's size takes by itself, ``fsync_ms`` what bringing the new
model to the disk takes on top. ``anon`` is the peak of anonymous memory during ``all`` above its start, in
models; the old and the new global model are in the page cache and not part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from appfl_gc.aggregator.base import Aggregator, Block
from appfl_gc.aggregator.blocks import LARGEST_BLOCK
from appfl_gc.aggregator.fedavg import FedAvgAggregator
from appfl_gc.aggregator.krum import KrumAggregator
from appfl_gc.aggregator.order_statistics import CoordinateMedianAggregator
from appfl_gc.aggregator.reduction import aggregate
from appfl_gc.aggregator.server_optimisers import FedAdamAggregator
from appfl_gc.aggregator.update_norm import update_norm
from appfl_gc.payload import model_file
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.file_store import FileStore
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.measures import Timing
from appfl_gc.protocol.schedule import UpdateId, UpdateMeta
from appfl_gc.protocol.update_spec import Meaning

MiB = 1 << 20
OTHERS: dict[str, Aggregator] = {
    "FedAdam": FedAdamAggregator(0.1, 0.001, 0.9, 0.99),
    "Krum": KrumAggregator(num_byzantine=1),
    "Median": CoordinateMedianAggregator(),
}


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process (Linux)."""
    match = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(match.group(1)) * 1024 if match else 0


class PeakOfAnonymousMemory:
    """Samples anonymous memory every millisecond; ``peak`` is above what it was on entry."""

    def __enter__(self) -> PeakOfAnonymousMemory:
        self.start = anonymous_bytes()
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._ended.wait(0.001):
            self.peak = max(self.peak, anonymous_bytes() - self.start)

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()


def model(elements: int, seed: int) -> dict[str, torch.Tensor]:
    """A state of a few large float32 tensors, small ones, and an integer buffer."""
    generator = torch.Generator().manual_seed(seed)
    large = elements // 4
    state = {f"layer{i}.weight": torch.randn(large, generator=generator).view(-1, 64) for i in range(4)}
    state |= {f"layer{i}.bias": torch.randn(64, generator=generator) for i in range(4)}
    return state | {"steps": torch.tensor(seed)}


@dataclass
class Bench:
    """Reply files of K clients and what is timed on them."""

    directory: Path
    clients: int
    elements: int
    threads: int
    best: dict[str, float] = field(default_factory=dict)
    peak: int = 0

    def __post_init__(self) -> None:
        self.store = FileStore(self.directory / "store")
        self.current, self.out = self.directory / "current.safetensors", self.directory / "new.safetensors"
        model_file.write(model(self.elements, 0), self.current)
        base = model(self.elements, 1)
        self.spec = spec_of(base)
        self.slots = range(self.clients)
        self.refs = [
            self.store.put(Encoding({name: tensor + client for name, tensor in base.items()}))
            for client in self.slots
        ]
        self.aggregator = FedAvgAggregator()
        self.weights = [1 / self.clients] * self.clients
        self.metas = [
            UpdateMeta(UpdateId(f"client{client}", 1), 0, 1, 1, Timing(0, 0, 0, 0)) for client in self.slots
        ]
        self.state = self.directory / "state.safetensors"
        self.result = torch.zeros(self.elements + 1024)

    def note(self, name: str, work: Callable[[], object]) -> float:
        """Time ``work`` and keep the best."""
        start = time.perf_counter()
        work()
        duration = time.perf_counter() - start
        self.best[name] = min(self.best.get(name, duration), duration)
        return duration

    def repeat(self) -> None:
        """Everything once."""
        with Arena(self.spec, self.clients) as arena:
            with PeakOfAnonymousMemory() as memory:
                took = self.note("land", lambda: self.land(arena))
                took += self.note("reduce", lambda: self.reduce(arena))
            self.best["all"] = min(self.best.get("all", took), took)
            self.peak = max(self.peak, memory.peak)
            with self.out.open("rb+") as file:
                self.note("fsync", lambda: os.fsync(file.fileno()))
            self.out.unlink()
            self.note("write", self.write)
            self.out.unlink()
            self.note("norm", lambda: self.norms(arena))
            for name, aggregator in OTHERS.items():
                self.note(name, partial(self.reduce, arena, aggregator))
            self.floors(arena)

    def land(self, arena: Arena) -> None:
        for_each(self.slots, lambda slot: arena.land(slot, self.refs[slot], self.store), self.threads)

    def reduce(self, arena: Arena, aggregator: Aggregator | None = None) -> None:
        aggregate(
            aggregator or self.aggregator,
            self.current,
            arena,
            self.slots,
            self.metas,
            [0] * self.clients,
            self.out,
            state=self.state,
            state_out=self.state,
            threads=self.threads,
            durable=False,
        )

    def norms(self, arena: Arena) -> None:
        trained = frozenset(tensor.name for tensor in self.spec.tensors)
        for slot in self.slots:
            update_norm(arena, slot, self.current, trained, self.threads)

    def write(self) -> None:
        chunk = memoryview(bytearray(LARGEST_BLOCK * 4))
        with self.out.open("wb", buffering=0) as file:
            for _ in range(self.elements * 4 // len(chunk)):
                file.write(chunk)

    def floors(self, arena: Arena) -> None:
        run = max(arena.layout.runs(), key=lambda run: run.numel)
        rows = arena.block(self.slots, run, 0, run.numel)
        factors, result = torch.tensor(self.weights), self.result[: run.numel]
        starts = range(0, run.numel, LARGEST_BLOCK)

        def mv(begin: int) -> None:
            part = slice(begin, begin + LARGEST_BLOCK)
            torch.mv(rows[:, part].t(), factors, out=result[part])

        def fold(begin: int) -> None:
            part = slice(begin, begin + LARGEST_BLOCK)
            block = Block(result[part], rows[:, part], Meaning.VALUE, True)
            result[part], _ = self.aggregator.reduce(block, self.weights)

        self.note("read", lambda: for_each(self.slots, lambda row: float(rows[row].sum()), self.threads))
        torch.set_num_threads(self.threads)
        self.note("mv", lambda: torch.mv(rows.t(), factors, out=result))
        self.note("mv*", lambda: for_each(starts, mv, self.threads))
        self.note("fold", lambda: for_each(starts, fold, self.threads))

    def row(self) -> dict[str, float]:
        """A row of the table."""
        total = sum(ref.size for ref in self.refs) / 1e9
        rates = {
            name: total / self.best[name]
            for name in ("read", "mv", "mv*", "land", "norm", "fold", "reduce", "all")
        }
        return {
            "threads": self.threads,
            "K": self.clients,
            **{name: round(rate, 1) for name, rate in rates.items()},
            **{name: round(self.best["reduce"] / self.best[name], 2) for name in OTHERS},
            "norm/read": round(rates["norm"] / rates["read"], 2),
            "norm/land": round(rates["norm"] / rates["land"], 2),
            "fold/mv": round(rates["fold"] / rates["mv"], 2),
            "reduce/mv": round(rates["reduce"] / rates["mv"], 2),
            "all/mv": round(rates["all"] / rates["mv"], 2),
            "write_ms": round(1000 * self.best["write"], 1),
            "fsync_ms": round(1000 * self.best["fsync"], 1),
            "anon": round(self.peak / (4 * self.elements), 3),
        }


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100, help="size of the model in MiB")
    parser.add_argument("--clients", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="where payloads lie (default: a temporary directory)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    elements = options.megabytes * MiB // 4 // 256 * 256
    rows = []
    for threads in options.threads:
        for clients in options.clients:
            with tempfile.TemporaryDirectory(dir=options.directory) as directory:
                bench = Bench(Path(directory), clients, elements, threads)
                for _ in range(options.repeats):
                    bench.repeat()
            rows.append(bench.row())
            if len(rows) == 1:
                print(" ".join(f"{name:>9}" for name in rows[0]))
            print(" ".join(f"{value:>9}" for value in rows[-1].values()), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"megabytes": options.megabytes, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
