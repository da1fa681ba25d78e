"""Tensors to bytes in mapped memory and back, and what compression costs and saves; beside copying in memory.

``encode`` writes the tensors into a mapped file, ``decode`` checks a mapped payload's header and makes tensors of it
without a copy; both take the checksum of every byte. ``accept`` is decode at the server: every number is looked at
too. Best of several, in turns with ``memcpy``: the same bytes copied in memory that was touched before. The weights
are normally distributed, which compresses worse than what a network has learned.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report
import torch

from appfl_gc.payload import checksum
from appfl_gc.payload.codec import Encoding, Layout, decode
from appfl_gc.payload.compression.packing import pack
from appfl_gc.payload.compression.unpacking import unpack_into
from appfl_gc.payload.files import map_shared, nameless_file
from appfl_gc.payload.gate import Gate
from appfl_gc.payload.sealing import Sealed, unseal
from appfl_gc.protocol.compression import CompressionSettings

COMPRESSIONS = {
    "zstd": CompressionSettings(),
    "zlib": CompressionSettings(lossless="zlib"),
    "lzma": CompressionSettings(lossless="lzma"),
    "bfloat16": CompressionSettings("bfloat16", None),
    "float16": CompressionSettings("float16", None),
    "int8": CompressionSettings("int8", None),
    "SZ3, REL 1e-2": CompressionSettings("SZ3", mode="REL", bound=1e-2),
    "SZ3, REL 1e-3": CompressionSettings("SZ3", mode="REL", bound=1e-3),
    "ZFP, ABS 1e-3": CompressionSettings("ZFP", mode="ABS", bound=1e-3),
}

SLOW = 4.0
"""Megabytes for lzma, which packs one in a second."""


def weights_of(size: int) -> dict[str, torch.Tensor]:
    """Normally distributed numbers as a layer's weights are, in tensors of at most 16 MiB."""
    most, left = 1 << 22, size // 4
    state: dict[str, torch.Tensor] = {}
    while left > 0:
        state[f"layer{len(state)}.weight"] = 0.02 * torch.randn(min(most, left))
        left -= most
    return state


def mapped(size: int) -> memoryview:
    """A mapped file of zeros that goes with the view."""
    with nameless_file(size) as file:
        return map_shared(file.fileno(), size)


def timed(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Best seconds of each, taken in turns."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def time_codec(megabytes: float, repeats: int) -> list[dict[str, Any]]:
    """A row for each way through memory."""
    state = weights_of(int(megabytes * 1e6))
    encoding = Encoding(state)
    size, layout = encoding.size, encoding.layout
    payload, copy = mapped(size), mapped(size)
    encoding.write_into(payload)
    source, target = torch.ones(size // 4), torch.ones(size // 4)
    sealed = Sealed(encoding, bytes(32))
    closed = memoryview(b"".join(sealed.chunks()))

    def encode(algorithm: str) -> None:
        running, position = checksum.Checksum(algorithm), 0
        for chunk in encoding.chunks():
            for begin in range(0, len(chunk), 1 << 20):
                piece = chunk[begin : begin + (1 << 20)]
                running.update(piece)
                copy[position : position + len(piece)] = piece
                position += len(piece)

    def accept(algorithm: str) -> None:
        Gate(payload, layout, sums[algorithm]).finish()

    def verified(algorithm: str) -> None:
        checksum.check(payload, sums[algorithm], "The payload")
        decode(payload, layout.spec)

    def seal() -> None:
        for _ in sealed.chunks():
            pass

    sums = {name: checksum.of(payload, name) for name in (checksum.FAST, checksum.STRONG)}
    works: dict[str, Callable[[], object]] = {"memcpy": lambda: target.copy_(source)}
    for name in sums:
        works[f"encode, {name}"] = lambda name=name: encode(name)  # type: ignore[misc]
        works[f"decode, {name}"] = lambda name=name: verified(name)  # type: ignore[misc]
        works[f"accept, {name}"] = lambda name=name: accept(name)  # type: ignore[misc]
    works |= {"encrypt": seal, "decrypt": lambda: unseal(closed, bytes(32), copy)}
    best = timed(works, repeats)
    return [
        {
            "what": name,
            "MB/s": megabytes / seconds,
            "ms": 1000 * seconds,
            "x memcpy": seconds / best["memcpy"],
        }
        for name, seconds in best.items()
    ]


def time_compression(name: str, megabytes: float, repeats: int) -> dict[str, Any]:
    """One row of the table of compressors."""
    if name == "lzma":
        megabytes = min(megabytes, SLOW)
    encoding, settings = Encoding(weights_of(int(megabytes * 1e6))), COMPRESSIONS[name]
    layout: Layout = encoding.layout
    packed = pack(encoding, settings)
    stored = memoryview(b"".join(packed.chunks()))
    out, target = mapped(layout.size), torch.ones(layout.size // 4)
    source = target.clone()
    works: dict[str, Callable[[], object]] = {
        "pack": lambda: pack(encoding, settings),
        "unpack": lambda: unpack_into(stored, layout, out, settings),
        "memcpy": lambda: target.copy_(source),
    }
    best = timed(works, repeats)
    return {
        "compressor": name,
        "pack MB/s": megabytes / best["pack"],
        "unpack MB/s": megabytes / best["unpack"],
        "memcpy MB/s": megabytes / best["memcpy"],
        "ratio": layout.size / packed.size,
        "largest error": packed.largest_error,
    }


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--compressed", type=float, default=32, help="megabytes for the compressors")
    parser.add_argument("--compressors", nargs="*", choices=list(COMPRESSIONS), default=list(COMPRESSIONS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    rows = time_codec(options.megabytes, options.repeats)
    report.show(f"A payload of {options.megabytes:g} MB in mapped memory", rows)
    compressed = [
        time_compression(name, options.compressed, max(1, options.repeats // 2))
        for name in options.compressors
    ]
    if compressed:
        report.show(f"Compressors, {options.compressed:g} MB of weights", compressed)
    summary = [
        report.verdict(f"{row['what']}, {options.megabytes:g} MB", "memcpy", row["x memcpy"])
        for row in rows
        if row["what"].startswith(("encode", "decode", "accept"))
    ]
    report.write(options.json, {"rows": rows, "compression": compressed, "summary": summary})


if __name__ == "__main__":
    main()
