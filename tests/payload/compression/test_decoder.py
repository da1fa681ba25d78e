"""The decoding processes: what they may do, and what their end does to others."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appfl_gc.payload.compression import foreign
from appfl_gc.payload.compression.decoder import Decoders
from appfl_gc.protocol.errors import TransferError, UpdateRefusedError

NUMBERS = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
STREAM = {name: foreign.encode(name, NUMBERS, 1e-3) for name in ("SZ3", "ZFP")}
DEADLINE = 30.0


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    with Decoders({"SZ3", "ZFP"}, 1) as decoders:
        yield decoders


def decoded(decoders: Decoders, name: str, stream: memoryview | bytes) -> np.ndarray:
    out = np.empty_like(NUMBERS)
    decoders.decode(name, memoryview(stream), out)
    return out


def gone(process: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(process: int) -> None:
    end = time.monotonic() + DEADLINE
    while not gone(process):
        assert time.monotonic() < end, "the process is still there"
        time.sleep(0.01)


@pytest.mark.parametrize("name", STREAM)
def test_streams_become_numbers_as_here(decoders: Decoders, name: str) -> None:
    here = foreign.decode(name, np.frombuffer(STREAM[name], np.uint8), np.float32, len(NUMBERS))
    assert (decoded(decoders, name, STREAM[name]) == here).all()
    assert (decoded(decoders, name, STREAM[name]) == here).all()


def test_a_refused_stream_does_not_end_the_process(decoders: Decoders) -> None:
    with pytest.raises(UpdateRefusedError, match="refused"):
        decoded(decoders, "ZFP", b"no stream")
    decoded(decoders, "ZFP", STREAM["ZFP"])


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_ends_refuses_its_stream_only(decoders: Decoders, what: signal.Signals) -> None:
    os.kill(decoders.process_ids[0], what)
    for _ in range(2):
        with pytest.raises(UpdateRefusedError, match="ended over it"):
            decoded(decoders, "SZ3", STREAM["SZ3"])


def test_a_process_that_says_nothing_is_given_up() -> None:
    with Decoders({"SZ3"}, 1, patience=0.5) as decoders:
        os.kill(decoders.process_ids[0], signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(UpdateRefusedError, match="ended over it"):
            decoded(decoders, "SZ3", STREAM["SZ3"])
        assert time.monotonic() - start < 20
    wait_until_gone(decoders.process_ids[0])


def test_closing_ends_the_processes() -> None:
    with Decoders({"ZFP"}, 2) as decoders:
        processes = decoders.process_ids
        assert len(processes) == 2
    assert all(map(gone, processes))
    assert Decoders(set(), 2).process_ids == []


def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal; from appfl_gc.payload.compression.decoder import Decoders\n"
        "decoders = Decoders({'SZ3'}, 1); print(decoders.process_ids[0], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(int(done.stdout))


def test_interrupting_the_terminal_does_not_end_it(decoders: Decoders) -> None:
    assert os.getsid(decoders.process_ids[0]) != os.getsid(0)
    os.kill(decoders.process_ids[0], signal.SIGINT)
    decoded(decoders, "SZ3", STREAM["SZ3"])


def test_a_process_knows_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-hidden")
    with Decoders({"SZ3"}, 1) as decoders:
        environment = Path(f"/proc/{decoders.process_ids[0]}/environ").read_bytes()
    assert b"hidden" not in environment
    assert b"AWS" not in environment


def test_a_process_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(TransferError, match="exit status 1"):
        Decoders({"SZ3"}, 1)


CONFINED = """
import mmap, os, resource, signal, socket, sys
import numpy as np
from appfl_gc.payload.compression.confinement import confine
confine(1 << 26, 1000)
tries = {
    "open": lambda: os.open("/etc/hostname", os.O_RDONLY),
    "socket": lambda: socket.socket(),
    "fork": lambda: os.fork(),
    "exec": lambda: os.execv("/bin/true", ["/bin/true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "unlink": lambda: os.unlink("/nowhere"),
    "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
}
for name, attempt in tries.items():
    try:
        attempt()
        os.write(1, f"{name} worked\\n".encode())
    except PermissionError:
        os.write(1, f"{name} denied\\n".encode())
try:
    np.ones(1 << 27, np.uint8)
    os.write(1, b"memory worked\\n")
except MemoryError:
    os.write(1, b"memory denied\\n")
np.ones(1 << 20).sum()
os.write(1, b"still there\\n")
os._exit(0)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine")
def test_a_confined_process_can_compute_and_nothing_else() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CONFINED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.stdout.splitlines() == [
        "open denied",
        "socket denied",
        "fork denied",
        "exec denied",
        "kill denied",
        "unlink denied",
        "executable memory denied",
        "memory denied",
        "still there",
    ], done.stderr


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine")
def test_a_decoding_process_is_confined(decoders: Decoders) -> None:
    status = Path(f"/proc/{decoders.process_ids[0]}/status").read_text()
    assert "\nSeccomp:\t2" in status
    assert "\nNoNewPrivs:\t1" in status
    assert "\nThreads:\t1" in status
    limits = Path(f"/proc/{decoders.process_ids[0]}/limits").read_text()
    assert int(limits.split("Max address space")[1].split()[0]) < 4 << 30


@pytest.mark.chaos
@pytest.mark.parametrize("name", STREAM)
def test_no_damaged_stream_hangs_or_reaches_this_process(name: str) -> None:
    random = np.random.default_rng(1)
    ended = 0
    decoders = Decoders({name}, 1)
    try:
        for _ in range(4000):
            damaged = bytearray(STREAM[name])
            for _ in range(int(random.integers(1, 6))):
                reach = len(damaged) if random.random() < 0.5 else 64
                damaged[int(random.integers(reach))] = int(random.integers(256))
            try:
                decoded(decoders, name, damaged)
            except UpdateRefusedError as error:
                if "ended" in error.message:
                    ended += 1
                    decoders.close()
                    decoders = Decoders({name}, 1)
    finally:
        decoders.close()
    assert ended < 400
