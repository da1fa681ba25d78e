"""Decoding of SZ3 and ZFP streams in processes of their own, which a hostile stream can at worst end.

Processes live for one payload, so that one site's stream cannot change what another site's becomes. They get
requests on a pipe, streams in a shared file, and answer with one byte; nothing that they write is interpreted.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import selectors
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from appfl_gc.payload.compression.decoder_child import DONE, READY, REFUSED, REQUEST, SECONDS
from appfl_gc.payload.compression.installed import PACKAGE, require
from appfl_gc.payload.compression.plan import PIECE_BYTES
from appfl_gc.payload.files import nameless_file
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError

_NUMBERS = 2 * PIECE_BYTES
"""Numbers of two bytes are decoded as four."""
_START = (
    "import sys; count = int(sys.argv[1]); sys.path[:] = sys.argv[2:2 + count]; del sys.argv[1:2 + count]; "
    "from appfl_gc.payload.compression.decoder_child import main; main()"
)
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PATIENCE = SECONDS + 30.0


class Decoders:
    """A few decoding processes, as a context that ends them.

    Args:
        names: the compressors (``SZ3``, ``ZFP``) whose streams will come; none starts no process.
        count: how many processes.
        patience: seconds that a process may be silent over one piece.

    Raises:
        VersionError: if a package for them is not installed.
        TransferError: if a process does not start.
    """

    def __init__(self, names: set[str], count: int, patience: float = _PATIENCE) -> None:
        packages = sorted(PACKAGE[name] for name in names)
        for package in packages:
            require(package)
        self._all: list[_Decoder] = []
        self._free: queue.SimpleQueue[_Decoder] = queue.SimpleQueue()
        try:
            for _ in range(count if names else 0):
                self._all.append(_Decoder(packages, patience))
            for decoder in self._all:
                decoder.await_start()
                self._free.put(decoder)
        except BaseException:
            self.close()
            raise

    def decode(self, name: str, stream: memoryview, numbers: Any) -> None:
        """Fill ``numbers`` (flat, float32 or float64) from ``stream``; waits for a free process.

        Raises:
            UpdateRefusedError: if it cannot be decoded to so many numbers, or the process ended over it.
        """
        with self._one() as decoder:
            decoder.decode(name, stream, numbers)

    @contextlib.contextmanager
    def _one(self) -> Iterator[_Decoder]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)

    @property
    def process_ids(self) -> list[int]:
        """Of the processes."""
        return [decoder.process_id for decoder in self._all]

    def close(self) -> None:
        """End the processes; may be called again."""
        for decoder in self._all:
            decoder.close()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Decoder:
    def __init__(self, packages: list[str], patience: float) -> None:
        self._patience = patience
        with _shared_file(PIECE_BYTES + _NUMBERS) as file:
            self._shared = mmap.mmap(file, PIECE_BYTES + _NUMBERS)
            path = [entry or os.getcwd() for entry in sys.path]
            arguments = [str(len(path)), *path, str(file), str(PIECE_BYTES), str(_NUMBERS), *packages]
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _START, *arguments],
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(file,),
                    env={
                        **{name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
                        **dict.fromkeys(_ONE_THREAD, "1"),
                    },
                    start_new_session=True,
                )
            except OSError as error:
                raise TransferError(f"A decoding process cannot be started: {error.strerror}.") from None

    @property
    def process_id(self) -> int:
        return self._process.pid

    def await_start(self) -> None:
        if self._answer(_PATIENCE) != READY:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            raise TransferError(
                f"The decoding process did not start (exit status {self._process.poll()}).",
                "Is there memory for another process on this machine?",
            )

    def decode(self, name: str, stream: memoryview, numbers: Any) -> None:
        self._shared[: len(stream)] = stream
        request = REQUEST.pack(name.encode(), numbers.itemsize, len(stream), len(numbers))
        try:
            if self._process.stdin is not None:
                self._process.stdin.write(request)
            answer = self._answer(self._patience)
        except OSError:
            answer = b""
        if answer != DONE:
            ended = "the decoder refused it" if answer == REFUSED else "the decoder ended over it"
            raise UpdateRefusedError(f"A piece compressed by {name} is damaged: {ended}.")
        numbers[:] = np.frombuffer(self._shared, numbers.dtype, len(numbers), PIECE_BYTES)

    def _answer(self, patience: float) -> bytes:
        """One byte; none if the process ends, or says nothing for so many seconds."""
        pipe = self._process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)  # type: ignore[arg-type]
            if pipe is None or not selector.select(patience):
                return b""
        return pipe.read(1) or b""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def _shared_file(size: int) -> Iterator[int]:
    if not hasattr(os, "memfd_create"):
        with nameless_file(size) as file:
            yield file.fileno()
        return
    fd = os.memfd_create("appfl-gc-decoder", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        yield fd
    finally:
        os.close(fd)
