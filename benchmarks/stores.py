"""A payload to each store and back, beside the raw client over the same service and copying in memory.

``put`` is what a site does with its update: encode, checksum, send. ``get`` is what the server does with it:
fetch, verify, map. Beside them the raw client moves the same bytes, which are one piece in memory before, unverified.
Best of several, taken in turns. ``ratio`` is ours over the raw client's, in MB/s; ``memcpy`` the same bytes copied in
memory. ``anon`` is the peak of anonymous memory in the process above its start, in models, at its worst; the model
itself is there before. The services' own processes are not counted.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import report
import torch
from reduction import PeakOfAnonymousMemory, anonymous_bytes
from ways import WAYS, Way, why_not

from appfl_gc.payload.codec import Encoding
from appfl_gc.protocol.errors import AppflGcError

LARGE = 50_000_000


class PeakAtIntervals(PeakOfAnonymousMemory):
    """As its base, less often while much is moved, so that looking costs the transfer little."""

    def __init__(self, size: int) -> None:
        self._interval = 0.001 if size < LARGE else 0.01

    def _sample(self) -> None:
        while not self._ended.wait(self._interval):
            self.peak = max(self.peak, anonymous_bytes() - self.start)


@dataclass
class Measured:
    """Best seconds and worst memory of one operation."""

    seconds: float = float("inf")
    peak: int = 0

    def take(self, work: Callable[[], Any], size: int) -> Any:
        """Do ``work``, note it, and return what it returns."""
        gc.collect()
        with PeakAtIntervals(size) as memory:
            begun = time.perf_counter()
            result = work()
            took = time.perf_counter() - begun
        self.seconds, self.peak = min(self.seconds, took), max(self.peak, memory.peak)
        return result


@dataclass
class Pair:
    """Ours and the raw client's put and get of one size."""

    put: Measured = field(default_factory=Measured)
    get: Measured = field(default_factory=Measured)
    raw_put: Measured = field(default_factory=Measured)
    raw_get: Measured = field(default_factory=Measured)


def model_of(size: int) -> dict[str, torch.Tensor]:
    """A state of ``size`` bytes in tensors of at most 16 MiB and a small one."""
    most, left = 1 << 22, size // 4
    state = {"bias": torch.ones(64)}
    while left > 0:
        state[f"layer{len(state)}.weight"] = torch.randn(min(most, left))
        left -= most
    return state


def compare(way: Way, state: dict[str, torch.Tensor], repeats: int) -> Pair:
    """Ours and the raw client in turns, each first as often; raises ``RuntimeError`` if bytes differ."""
    pair = Pair()
    encoding = Encoding(state)
    for number in range(repeats):
        turns = [use_ours, use_raw]
        for use in turns if number % 2 else reversed(turns):
            use(way, encoding, pair)
    return pair


def use_ours(way: Way, encoding: Encoding, pair: Pair) -> None:
    """A site's put and the server's get; both are checked."""
    size = encoding.size
    site = way.granted(size)
    ref = pair.put.take(lambda: site.put(encoding), size)
    site.close()
    arrived = pair.get.take(lambda: way.fetch(ref), size)
    position = 0
    for chunk in encoding.chunks():
        if arrived[position : position + len(chunk)] != chunk:
            raise RuntimeError(f"{way.name} brought other bytes.")
        position += len(chunk)
    way.server.evict(ref)


def use_raw(way: Way, encoding: Encoding, pair: Pair) -> None:
    """The raw client's put and get of the same bytes."""
    data = b"".join(encoding.chunks())
    name = pair.raw_put.take(lambda: way.raw.put(data), len(data))
    data = b""
    pair.raw_get.take(lambda: way.raw.get(name, encoding.size), encoding.size)
    way.raw.forget(name)


def memcpy_seconds(size: int, repeats: int) -> float:
    """Best seconds to copy ``size`` bytes between two buffers that were touched before."""
    source, target = torch.ones(size // 4), torch.ones(size // 4)
    best = float("inf")
    for _ in range(max(3, repeats, LARGE // size)):
        begun = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - begun)
    return best


def rows_of(way: Way, megabytes: float, pair: Pair, memcpy: float) -> list[dict[str, Any]]:
    """A row for each direction."""
    rows = []
    for direction, ours, raw in (("put", pair.put, pair.raw_put), ("get", pair.get, pair.raw_get)):
        rows.append(
            {
                "store": way.name,
                "MB": megabytes,
                "way": direction,
                "MB/s": megabytes / ours.seconds,
                "raw client": way.beside,
                "raw MB/s": megabytes / raw.seconds,
                "ratio": raw.seconds / ours.seconds,
                "memcpy MB/s": megabytes / memcpy,
                "anon": ours.peak / 1e6 / megabytes,
                "raw anon": raw.peak / 1e6 / megabytes,
                "load": round(os.getloadavg()[0], 1),
            }
        )
    return rows


def summary_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each store the weakest ratio and the most memory, of models of 100 MB and more where there are such."""
    result = []
    for store in dict.fromkeys(row["store"] for row in rows):
        of_store = [row for row in rows if row["store"] == store]
        large = [row for row in of_store if row["MB"] >= 100] or of_store
        weakest = min(large, key=lambda row: row["ratio"])
        what = f"{store}: {weakest['way']} of {weakest['MB']:g} MB, MB/s"
        result.append(report.at_least(what, weakest["raw client"], weakest["ratio"], 0.9))
        most = max(row["anon"] for row in large)
        result.append(report.verdict(f"{store}: anonymous memory beyond the model", "1 model", most, 0.3))
    return result


def measure(name: str, sizes: list[float], repeats: int | None, directory: Path) -> list[dict[str, Any]]:
    """All sizes over one store."""
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(dir=directory, prefix="appfl-gc-bench-") as own,
        WAYS[name](Path(own)) as way,
    ):
        for megabytes in sizes:
            if way.megabytes is not None:
                megabytes = min(megabytes, way.megabytes * 0.99)
                if any(row["MB"] == megabytes for row in rows):
                    continue
            size = int(megabytes * 1e6)
            times = repeats or (6 if size < LARGE else 4 if size < 10 * LARGE else 3)
            if name == "endpoint" and repeats is None:
                times -= 2
            memcpy = memcpy_seconds(size, times)
            rows += rows_of(way, megabytes, compare(way, model_of(size), times), memcpy)
    return rows


def main() -> int:
    """Print the tables and write them; 1 if a store failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, help="of each transfer (default: fewer the larger it is)")
    parser.add_argument("--directory", type=Path, help="where files lie (default: a temporary directory)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows, failed = [], []
    for name in options.stores:
        if reason := why_not(name):
            print(f"{name} is left out: it {reason}.")
            continue
        try:
            of_store = measure(name, options.megabytes, options.repeats, options.directory)
        except AppflGcError as error:
            failed.append(name)
            print(f"{name} failed: {error}", file=sys.stderr)
            continue
        report.show(f"Payloads over {name}", of_store)
        rows += of_store
    report.write(options.json, {"rows": rows, "summary": summary_of(rows)})
    if threading.active_count() > 1:
        left = [thread.name for thread in threading.enumerate()]
        print(f"Threads that are left: {', '.join(left)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
