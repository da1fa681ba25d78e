"""ProxyStore's relay and endpoints, the real programs, in a network namespace of the test's own.

Endpoints ask public STUN servers for their address when they start; in the namespace there is nobody to ask.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ADDRESS = "10.77.0.1"
"""Not on the loopback interface: the endpoints' peer connections ignore that one."""

_CLONE_NEWNET = 0x40000000
_SETUP = (
    "ip link set lo up && ip link add v0 type veth peer name v1 && "
    f"ip addr add {ADDRESS}/24 dev v0 && ip link set v0 up && ip link set v1 up && echo ready && exec cat"
)
_PROGRAMS = Path(sys.executable).absolute().parent


def why_not() -> str:
    """Why there can't be a bed on this machine, or ""."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return f"needs the program {program}"
    if not (_PROGRAMS / "proxystore-relay").exists():
        return "needs proxystore[endpoints]"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", _SETUP], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return "" if done.returncode == 0 else "needs the right to make network namespaces"


class Namespace:
    """A network of its own, with loopback and ``ADDRESS``; gone when it is closed or this process ends."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", _SETUP], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise RuntimeError("the network namespace could not be made")

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and the threads and processes that it starts meanwhile, are in the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path("/proc/thread-self/ns/net").open("rb") as outer,
            Path(f"/proc/{self._holder.pid}/ns/net").open("rb") as inner,
        ):
            _enter(libc, inner.fileno())
            try:
                yield
            finally:
                _enter(libc, outer.fileno())

    def close(self) -> None:
        """Let go of it; processes in it keep it until they end."""
        self._holder.communicate()


def _enter(libc: ctypes.CDLL, fd: int) -> None:
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Program:
    """A process that listens on ``port`` of ``ADDRESS``."""

    command: list[str]
    port: int
    namespace: Namespace
    output: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start it; returns at once."""
        with self.output.open("ab") as output, self.namespace.inside():
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Without the proxies of a test: a connection to the relay goes through one.
                env={
                    **{name: value for name, value in os.environ.items() if not _proxy(name)},
                    **self.environment,
                },
            )

    def wait(self, seconds: float = 90.0) -> None:
        """Until it listens."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        with self.namespace.inside():
            while True:
                with contextlib.suppress(OSError), socket.create_connection((ADDRESS, self.port), 1):
                    return
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{self.command} does not run:\n{self.output.read_text()[-4000:]}")
                time.sleep(0.02)

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.launch()
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGKILL waits for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)


class Endpoint(Program):
    """One `proxystore-endpoint` with a home of its own."""

    def __init__(
        self, bed_dir: Path, name: str, port: int, relay_port: int, namespace: Namespace, largest: int
    ) -> None:
        from proxystore.endpoint.config import (
            EndpointConfig,
            EndpointRelayConfig,
            EndpointStorageConfig,
            write_config,
        )

        self.home = bed_dir / f"home-{name}"
        self.name = name
        self.uuid = _uuid4(name)
        config = EndpointConfig(
            name=name,
            uuid=self.uuid,
            port=port,
            host=ADDRESS,
            host_type="static",
            relay=EndpointRelayConfig(address=f"ws://{ADDRESS}:{relay_port}", ice_servers=[]),
            storage=EndpointStorageConfig(max_object_size=largest),
        )
        write_config(config, str(self.home / name))
        super().__init__(
            [str(_PROGRAMS / "proxystore-endpoint"), "start", name, "--no-detach"],
            port,
            namespace,
            bed_dir / f"{name}.out",
            {"PROXYSTORE_HOME": str(self.home)},
        )

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.home / self.name / "log.txt"


class Bed:
    """A relay and endpoints ``a`` and ``b``, peers through it. Their addresses hold in ``inside()`` only.

    Args:
        directory: for their homes and what they print.
        largest: bytes of the largest object that they take.
        largest_b: the same for ``b``, if it differs.
    """

    def __init__(self, directory: Path, *, largest: int = 100_000_000, largest_b: int | None = None) -> None:
        self.namespace = Namespace()
        self.relay = Program(
            [str(_PROGRAMS / "proxystore-relay"), "--host", ADDRESS, "--port", "8700"],
            8700,
            self.namespace,
            directory / "relay.out",
        )
        self.a = Endpoint(directory, "a", 9001, 8700, self.namespace, largest)
        self.b = Endpoint(directory, "b", 9002, 8700, self.namespace, largest_b or largest)

    @property
    def endpoints(self) -> list[str]:
        """The UUIDs of both, as a federation's configuration lists them."""
        return [self.a.uuid, self.b.uuid]

    def start(self) -> Bed:
        """Start what does not run."""
        programs = [self.relay, self.a, self.b]
        for program in programs:
            if program.process is None or program.process.poll() is not None:
                program.launch()
                if program is self.relay:
                    program.wait()
        for program in programs:
            program.wait()
        return self

    @contextlib.contextmanager
    def inside(self) -> Iterator[Bed]:
        """See ``Namespace.inside``."""
        with self.namespace.inside():
            yield self

    def restart(self) -> None:
        """New endpoints, which hold nothing and know of no connection; the relay stays if it runs."""
        self.a.kill()
        self.b.kill()
        self.start()

    def close(self) -> None:
        """End everything."""
        for program in (self.a, self.b, self.relay):
            program.kill()
        self.namespace.close()


def _proxy(name: str) -> bool:
    return name.lower().endswith("_proxy")


def _uuid4(name: str) -> str:
    return str(uuid.UUID(int=random.Random(name).getrandbits(128), version=4))
