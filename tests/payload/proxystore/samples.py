"""Payloads and progress for tests of stores."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.protocol.reference import Ref


@dataclass
class Sample:
    """Bytes as a payload in chunks of odd sizes."""

    data: bytes
    codec: str = "sample-1"
    chunk: int = 999_983

    @classmethod
    def of(cls, size: int, seed: int = 0) -> Sample:
        return cls(np.random.default_rng(seed).bytes(size))

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def checksum(self) -> str:
        return f"blake3:{blake3(self.data).hexdigest()}"

    def chunks(self) -> Iterator[memoryview]:
        for begin in range(0, self.size, self.chunk):
            yield memoryview(self.data)[begin : begin + self.chunk]


@dataclass
class Progress:
    """What a store reported, each larger than the one before."""

    seen: list[int] = field(default_factory=lambda: [0])

    def __call__(self, count: int) -> None:
        assert count >= self.seen[-1]
        self.seen.append(count)

    @property
    def last(self) -> int:
        return self.seen[-1]


def fetched(store: ProxyStoreStore, ref: Ref) -> bytes:
    """What the store writes into a file for ``ref``; progress is checked."""
    progress = Progress()
    with tempfile.TemporaryFile() as file:
        store.fetch(ref, file.fileno(), progress)
        assert progress.last == ref.size == os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), ref.size, 0)
