"""A lease on a run directory: no two servers run one run, wherever they are.

Each server that runs a run makes a file of its own beside those of the servers before it, numbered one higher, and
writes it anew every few seconds. A name is made once, by one process alone, on every file system; locks are not needed,
which NFS and Lustre may lack. No two hosts' clocks are compared: whether a process of another host is at it shows by
whether its file changes.
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

LEASES = "leases"
"""The folder, in a run directory, of the files ``1.json``, ``2.json`` and so on."""
STOP_FILE = "stop.json"
PERIOD = 10.0
"""Seconds from one renewal to the next."""
SILENT_PERIODS = 3
"""A lease that does not change for so many periods is nobody's any more."""
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
        over: it has left.
    """

    host: str
    process: Process
    token: str
    counter: int = 0
    over: bool = False

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
            "over": self.over,
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
            fields.get("over") is True,
        )

    def __str__(self) -> str:
        return f"process {self.process.pid} on {self.host}"


def holder(directory: Path, tell: Callable[[str], None] = _ignore, period: float = PERIOD) -> Holder | None:
    """Who runs the run of ``directory`` now, or None.

    Where the newest lease names a process of another host, this watches it for three periods; ``tell`` hears that
    before.

    Raises:
        StorageError: if the lease can't be read.
    """
    try:
        return _holder(directory, _newest(directory), tell, period)
    except OSError as error:
        raise _unreadable(directory, error) from None


def refuse_if_held(directory: Path, tell: Callable[[str], None] = _ignore) -> None:
    """Raise ``LeaseHeldError`` if somebody runs the run of ``directory``; else as ``holder``."""
    found = holder(directory, tell)
    if found is not None:
        raise _held(directory, found)


def written(directory: Path) -> Holder | None:
    """Whom the newest lease names, living, dead or gone; None without one. Raises ``StorageError``."""
    try:
        return _parsed(_read(directory, _newest(directory)))
    except OSError as error:
        raise _unreadable(directory, error) from None


class Lease:
    """The right to run the run of a directory, while the block of ``with`` lasts.

    Args:
        directory: of the run.
        lost: called once, from a thread, with a sentence, when another process has taken the lease all the same: this
            one must stop at once and write nothing more.
        stop: called once, from a thread, with words for who asks, when ``request_stop`` asks this holder
            to end the run.
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
        self._number = 0
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
        self._sure_at = _since_boot()
        self._thread.start()
        return self

    def confirm(self) -> None:
        """Before something is written that only the holder may write. Costs nothing while renewing goes well.

        Raises:
            LeaseHeldError: this process stood still, or could not renew, for so long that another took the run.
            StorageError: whether that is so can't be read.
        """
        if _since_boot() - self._sure_at < (SILENT_PERIODS - 1) * self._period:
            return
        try:
            other = self._successor()
        except OSError as error:
            raise _unreadable(self._directory, error) from None
        if other is not None:
            raise _held(self._directory, other)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(self._period)  # it may hang in a file system
        with contextlib.suppress(OSError):
            if self._successor() is None:
                self._mine = replace(self._mine, over=True)
                _write(self._directory, self._number, self._mine)
                (self._directory / STOP_FILE).unlink(missing_ok=True)

    def _take(self) -> None:
        (self._directory / LEASES).mkdir(mode=0o700, exist_ok=True)
        while True:
            newest = _newest(self._directory)
            found = _holder(self._directory, newest, self._tell, self._period)
            if found is not None:
                raise _held(self._directory, found)
            if self._create(newest + 1):
                break
        self._number = newest + 1
        if newest:
            # For a process that was only thought to be dead: it reads its own file more reliably than it hears of
            # another's.
            with contextlib.suppress(OSError):
                _write(self._directory, newest, self._mine)

    def _create(self, number: int) -> bool:
        """Make the file of that number; False if there is one by now."""
        path = _path(self._directory, number)
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        try:
            write_all(descriptor, memoryview(_content(self._mine)))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return True

    def _successor(self) -> Holder | None:
        """Who has taken the lease since, or None. Raises ``OSError``."""
        mine = _parsed(_read(self._directory, self._number))
        if mine is not None and mine.token != self._mine.token:
            return mine
        return _parsed(_read(self._directory, self._number + 1))

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
        other = self._successor()
        if other is not None:
            return f"The run {self._directory} was taken over by {other}. This process stops and leaves it alone."
        self._mine = replace(self._mine, counter=self._mine.counter + 1)
        _write(self._directory, self._number, self._mine)
        self._sure_at = _since_boot()
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
    """Whether the holder with ``token`` is asked to stop: words that say by whom, or ""."""
    try:
        fields = as_object(load_json((directory / STOP_FILE).read_text("utf-8")), "The request")
        if fields.get("token") != token:
            return ""
        return f"A request of {as_key(fields.get('by'), 'Who asks')}"
    except (OSError, ValueError):
        return ""


def _holder(directory: Path, number: int, tell: Callable[[str], None], period: float) -> Holder | None:
    """Who holds the lease of that number; None if there is none, or it is what a process that ended has left."""
    seen = _read(directory, number)
    found = _parsed(seen)
    if not number or (found is not None and found.over):
        return None
    ended = None if found is None else found.process.ended
    if ended is not None:
        return None if ended else found
    seconds = SILENT_PERIODS * period
    who = str(found) if found is not None else "another process"
    tell(f"Waiting up to {seconds:.0f} s to see whether {who} still runs {directory} ...")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(ASKED_EVERY, period / 4))
        now = _read(directory, number)
        if now != seen and (changed := _parsed(now)) is not None:
            return None if changed.over else changed
        if now != seen:
            seen, until = now, time.monotonic() + seconds
    return None


def _held(directory: Path, found: Holder) -> LeaseHeldError:
    return LeaseHeldError(
        f"The run {directory} is being run by {found}.",
        f"`appfl-gc cancel {directory}` ends it. Only one server can run a run.",
    )


def _unreadable(directory: Path, error: OSError) -> StorageError:
    return StorageError(
        f"Whether somebody runs {directory} can't be told: {error.strerror or error}.",
        "Its owner can read it.",
    )


def _path(directory: Path, number: int) -> Path:
    return directory / LEASES / f"{number}.json"


def _newest(directory: Path) -> int:
    """The highest number of a lease; 0 without one. Raises ``OSError``."""
    try:
        names = [path.stem for path in (directory / LEASES).iterdir() if path.suffix == ".json"]
    except FileNotFoundError:
        return 0
    number = max((int(name) for name in names if name.isdecimal()), default=0)
    # A listing may be older than what is there.
    while _read(directory, number + 1):
        number += 1
    return number


def _read(directory: Path, number: int) -> bytes:
    """The file's content; nothing if there is none. Raises ``OSError``."""
    try:
        return _path(directory, number).read_bytes()
    except FileNotFoundError:
        return b""


def _write(directory: Path, number: int, whom: Holder) -> None:
    """Write the file of that number, at once or not at all. Raises ``OSError``."""
    with replacing(_path(directory, number), fsync=False) as file:
        write_all(file, memoryview(_content(whom)))


def _content(whom: Holder) -> bytes:
    return json.dumps(whom.to_json()).encode()


def _parsed(content: bytes) -> Holder | None:
    try:
        return Holder.from_json(load_json(content.decode("utf-8", "replace")))
    except WireError:
        return None


def _since_boot() -> float:
    """Seconds that go on while the machine is suspended, where it has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
