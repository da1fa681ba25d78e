"""A lease on a run directory: no two servers run one run, wherever they are.

A small file says who runs it, and is written anew every few seconds. It needs no locks, which not every network file
system has, and compares no two hosts' clocks: whether a process of another host is at it shows by whether the file
changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from appfl_gc.payload.files import replacing, write_all
from appfl_gc.protocol.errors import StorageError, UsageError
from appfl_gc.protocol.wire import Json, WireError, as_count, as_key, as_object, load_json
from appfl_gc.site.process import Process, this_process

FILE = "lease.json"
STOP_FILE = "stop.json"
PERIOD = 10.0
"""Seconds from one renewal to the next."""
SILENT_PERIODS = 3
"""A lease that does not change for so many periods is nobody's any more."""
SETTLING = 0.5
"""Seconds after which whoever takes an abandoned lease looks whether another took it at the same time."""
ASKED_EVERY = 1.0
"""Seconds from one look for a request to stop to the next."""
TOLD_AFTER = 3
"""Renewals that fail in a row before it is told."""


class LeaseHeldError(UsageError):
    """Another process runs the run."""


def _ignore(words: str) -> None:
    """Hears and does nothing."""


@dataclass(frozen=True)
class Holder:
    """Who runs a run.

    Attributes:
        host: its name, for people.
        process: which process.
        token: of this taking of the lease.
        counter: renewals so far.
    """

    host: str
    process: Process
    token: str
    counter: int = 0

    @classmethod
    def here(cls) -> Holder:
        """This process, with a new token."""
        return cls(socket.gethostname(), this_process(), secrets.token_hex(16))

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "host": self.host,
            "process": self.process.to_json(),
            "token": self.token,
            "counter": self.counter,
        }

    @classmethod
    def from_json(cls, value: Json) -> Holder:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "The lease")
        return cls(
            as_key(fields.get("host"), "The host"),
            Process.from_json(fields.get("process")),
            as_key(fields.get("token"), "The token", 100),
            as_count(fields.get("counter"), "The counter"),
        )

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.host}"


def holder(directory: Path, tell: Callable[[str], None] = _ignore, period: float = PERIOD) -> Holder | None:
    """Who runs the run of ``directory`` now, or None.

    Where the file names a process of another host, this watches it for three periods; ``tell`` hears that before.

    Raises:
        StorageError: if the lease can't be read.
    """
    return _holder(directory, _read(directory), tell, period)


class Lease:
    """The right to run the run of a directory, while the block of ``with`` lasts.

    Args:
        directory: of the run.
        lost: called once, from a thread, with a sentence, when another process has taken the lease all the same: this
            one must stop at once and write nothing more.
        stop: called once, from a thread, with a sentence, when ``request_stop`` asks this holder to end the run.
        tell: hears sentences: that it waits to see whether another host runs the run; that renewing fails.
        period: seconds between renewals; the same for all who take a directory's lease.

    Entering raises:
        LeaseHeldError: if another process runs the run.
        StorageError: if the directory can't be written.
    """

    def __init__(
        self,
        directory: Path,
        lost: Callable[[str], None],
        *,
        stop: Callable[[str], None] = _ignore,
        tell: Callable[[str], None] = _ignore,
        period: float = PERIOD,
    ) -> None:
        self._directory = directory
        self._lost = lost
        self._stop = stop
        self._tell = tell
        self._period = period
        self._mine = Holder.here()
        self._over = threading.Event()
        self._sure_at = 0.0
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        try:
            self._take()
        except OSError as error:
            raise StorageError(
                f"The run directory {self._directory} can't be written: {error.strerror or error}.",
                "A run needs a directory that it can write, with room. Nothing was changed.",
            ) from None
        self._sure_at = time.monotonic()
        self._thread.start()
        return self

    def confirm(self) -> None:
        """Before something is written that only the holder may write. Costs nothing while renewing goes well.

        Raises:
            LeaseHeldError: this process stood still, or could not renew, for so long that another took the run.
        """
        if time.monotonic() - self._sure_at < (SILENT_PERIODS - 1) * self._period:
            return
        found = _parsed(_read(self._directory) or b"")
        if found is not None and found.token != self._mine.token:
            raise _held(self._directory, found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(self._period)  # it may hang in a file system
        with contextlib.suppress(OSError):
            if _token_in(_read_bytes(self._directory)) == self._mine.token:
                (self._directory / FILE).unlink()
                (self._directory / STOP_FILE).unlink(missing_ok=True)

    def _take(self) -> None:
        while True:
            seen = _read_bytes(self._directory)
            if seen is None:
                if self._create():
                    return
                continue
            found = _holder(self._directory, seen, self._tell, self._period)
            if found is not None:
                raise _held(self._directory, found)
            looked = time.monotonic()
            if _read_bytes(self._directory) != seen:
                continue
            self._write()
            # Whoever looked before this was written has written too by then, or finds that it took too long and gives
            # the other time to notice: the last to write has it.
            quick = time.monotonic() - looked < SETTLING / 2
            time.sleep(SETTLING if quick else 2 * self._period)
            left = _read_bytes(self._directory)
            if _token_in(left) == self._mine.token:
                return

    def _create(self) -> bool:
        """Make the file; False if there is one by now."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            descriptor = os.open(self._directory / FILE, flags, 0o600)
        except FileExistsError:
            return False
        try:
            write_all(descriptor, memoryview(self._bytes()))
        except OSError:
            (self._directory / FILE).unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return True

    def _write(self) -> None:
        """Replace the file, at once or not at all."""
        with replacing(self._directory / FILE, fsync=False) as file:
            write_all(file, memoryview(self._bytes()))

    def _bytes(self) -> bytes:
        return json.dumps(self._mine.to_json()).encode()

    # The thread

    def _keep(self) -> None:
        failures, renew_at = 0, time.monotonic() + self._period
        asked = False
        while not self._over.wait(min(ASKED_EVERY, self._period)):
            if not asked and (words := _request(self._directory, self._mine.token)):
                asked = True
                self._stop(words)
            if time.monotonic() < renew_at:
                continue
            try:
                taken = self._renew()
            except OSError as error:
                failures += 1
                if failures == TOLD_AFTER:
                    self._tell(
                        f"The lease in {self._directory} could not be renewed {failures} times "
                        f"({error.strerror or error}). Do not resume this run elsewhere while it goes on."
                    )
            else:
                failures = 0
                if taken is not None:
                    self._lost(taken)
                    return
            renew_at = time.monotonic() + self._period

    def _renew(self) -> str | None:
        """Write the lease anew; or, if it is another's by now, a sentence about that."""
        seen = _read_bytes(self._directory)
        found = None if seen is None else _parsed(seen)
        if found is not None and found.token != self._mine.token:
            return f"The run {self._directory} was taken over by {found}. This process stops and leaves it alone."
        self._mine = replace(self._mine, counter=self._mine.counter + 1)
        if seen is not None:
            self._write()
        elif not self._create():
            raise OSError("another process has just made one")
        self._sure_at = time.monotonic()
        return None


def request_stop(directory: Path, whom: Holder) -> None:
    """Ask ``whom``, which runs the run of ``directory``, to end it as Ctrl-C does; it looks every second.

    Raises:
        StorageError: if the directory can't be written.
    """
    request = {"token": whom.token, "by": str(Holder.here())}
    try:
        with replacing(directory / STOP_FILE, fsync=False) as file:
            write_all(file, memoryview(json.dumps(request).encode()))
    except OSError as error:
        raise StorageError(
            f"The run can't be asked to end, for {directory} can't be written: {error.strerror or error}.",
            f"Send SIGINT to {whom}.",
        ) from None


def _request(directory: Path, token: str) -> str:
    """Whether the holder with ``token`` is asked to stop: a sentence that says by whom, or ""."""
    try:
        fields = as_object(load_json((directory / STOP_FILE).read_text("utf-8")), "The request")
        if fields.get("token") != token:
            return ""
        return f"{as_key(fields.get('by'), 'Who asks')} asks the run to end."
    except (OSError, ValueError):
        return ""


def _holder(directory: Path, seen: bytes | None, tell: Callable[[str], None], period: float) -> Holder | None:
    """Who runs the run, given the file's content; None if that is what a dead process has left."""
    if seen is None:
        return None
    found = _parsed(seen)
    ended = None if found is None else found.process.ended
    if ended is not None:
        return None if ended else found
    seconds = SILENT_PERIODS * period
    who = str(found) if found is not None else "another process"
    tell(f"Waiting up to {seconds:.0f} s to see whether {who} still runs {directory} ...")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(ASKED_EVERY, period / 4))
        now = _read(directory)
        if now is None:
            return None
        if now != seen:
            return _holder(directory, now, tell, period) if _parsed(now) is None else _parsed(now)
    return None


def _held(directory: Path, found: Holder) -> LeaseHeldError:
    return LeaseHeldError(
        f"The run {directory} is being run by {found}.",
        f"`appfl-gc cancel {directory}` ends it. Only one server can run a run.",
    )


def _read(directory: Path) -> bytes | None:
    try:
        return _read_bytes(directory)
    except OSError as error:
        raise StorageError(
            f"Whether somebody runs {directory} can't be told: {error.strerror or error}.",
            "Its owner can read it.",
        ) from None


def _read_bytes(directory: Path) -> bytes | None:
    """The file's content; None if there is none. Raises ``OSError``."""
    try:
        return (directory / FILE).read_bytes()
    except FileNotFoundError:
        return None


def _parsed(content: bytes) -> Holder | None:
    try:
        return Holder.from_json(load_json(content.decode("utf-8", "replace")))
    except WireError:
        return None


def _token_in(content: bytes | None) -> str | None:
    found = None if content is None else _parsed(content)
    return None if found is None else found.token
