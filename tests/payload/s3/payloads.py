"""Payloads for the tests of S3."""

import tempfile
from contextlib import contextmanager

import blake3
import numpy

from appfl_gc.payload.s3.granted import from_grant

from .conftest import QUICK

MB = 1_000_000


class Payload:
    """``size`` bytes in ``pieces`` chunks."""

    codec = "safetensors-1"

    def __init__(self, size, pieces=3, seed=0):
        self.content = numpy.random.default_rng(seed).integers(0, 256, size, numpy.uint8).tobytes()
        self.size = size
        self.pieces = pieces

    def chunks(self):
        step = -(-self.size // self.pieces)
        for start in range(0, self.size, step):
            yield memoryview(self.content)[start : start + step]

    @property
    def checksum(self):
        return f"blake3:{blake3.blake3(self.content).hexdigest()}"


class Progress(list):
    """Hears of progress."""

    def __call__(self, done):
        self.append(done)

    def check(self, size):
        assert self == sorted(self)
        assert self[-1] == size


def fetched(store, ref):
    """The bytes of a payload."""
    with tempfile.TemporaryFile() as file:
        progress = Progress()
        store.fetch(ref, file.fileno(), progress)
        progress.check(ref.size)
        file.seek(0)
        return file.read()


def site(grant, **more):
    """A site's store."""
    return from_grant(grant, **{"patience": QUICK, **more})


@contextmanager
def temporary_file():
    with tempfile.TemporaryFile() as file:
        yield file.fileno()
