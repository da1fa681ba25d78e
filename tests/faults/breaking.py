"""What is done to a server so that it breaks at one point; ``tests.faults.nursery`` calls these in the server."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from appfl_gc.payload import arena
from appfl_gc.runner.journal import Journal

PAYLOAD = re.compile(r"[0-9a-f]{32}\.safetensors")
"""Names of files in a run directory's payload store."""


def _end(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def _around(path: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Call something before and after each call of the function ``module:name`` or ``module:Class.name``."""
    module, _, names = path.partition(":")
    *holders, name = names.split(".")
    holder: Any = importlib.import_module(module)
    for one in holders:
        holder = getattr(holder, one)
    original = getattr(holder, name)

    def changed(*args: Any, **kwargs: Any) -> Any:
        before()
        result = original(*args, **kwargs)
        after()
        return result

    setattr(holder, name, changed)


def _nth(number: int, act: Callable[[], None]) -> Callable[[], None]:
    """Something that acts when it is called for the ``number``-th time, from 1."""
    calls = iter(range(1, number + 1))

    def count() -> None:
        if next(calls, 0) == number:
            act()

    return count


def _directory_of(journal: Journal) -> Path:
    """The run's directory."""
    return Path(f"/proc/self/fd/{journal._descriptor}").readlink().parent


def _nothing() -> None:
    """Nothing is broken here."""


def kill_after_record(number: int) -> None:
    """SIGKILL when this process has appended its ``number``-th record to the journal."""
    _around("appfl_gc.runner.journal:Journal.append", _nothing, _nth(number, _end))


def kill_before_record(number: int) -> None:
    """SIGKILL when this process is about to append its ``number``-th record."""
    _around("appfl_gc.runner.journal:Journal.append", _nth(number, _end), _nothing)


def signal_at(kind: str, number: int, signum: int = signal.SIGKILL) -> None:
    """Send this process a signal after its ``number``-th record of ``kind``; see ``_at``."""
    _at(kind, number, lambda directory: _end(signum))


def _at(kind: str, number: int, act: Callable[[Path], None]) -> None:
    """Do something with the run directory after the ``number``-th record of ``kind``.

    ``step Arrived`` are those records of kind ``step`` that say what was done about an ``Arrived``.
    """
    left = number
    append = Journal.append

    def changed(self: Journal, at: float, of: str, **fields: Any) -> None:
        nonlocal left
        append(self, at, of, **fields)
        named = kind in (of, f"{of} {fields.get('event', {}).get('kind')}")
        left -= named
        if named and left == 0:
            act(_directory_of(self))

    Journal.append = changed  # type: ignore[method-assign]


def kill_before(path: str, number: int = 1) -> None:
    """SIGKILL before the ``number``-th call of the function ``module:Class.name``."""
    _around(path, _nth(number, _end), _nothing)


def kill_after(path: str, number: int = 1) -> None:
    """SIGKILL after the ``number``-th call of it."""
    _around(path, _nothing, _nth(number, _end))


def fail_with_errno(path: str, number: int, code: int = errno.EIO) -> None:
    """The ``number``-th call of it raises an ``OSError``."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    _around(path, _nth(number, fail), _nothing)


def kill_within_copy(number: int) -> None:
    """SIGKILL in the middle of writing the ``number``-th update that is kept, where files have one name only."""
    original = arena.write_chunks
    arena.give_name = lambda fd, path: False  # type: ignore[assignment]
    nth = _nth(number, _end)

    def changed(fd: int, chunks: Iterable[memoryview], see: Callable[[memoryview], None]) -> None:
        whole = b"".join(chunk.cast("B") for chunk in chunks)
        original(fd, [memoryview(whole)[: len(whole) // 2]])
        nth()
        os.lseek(fd, 0, os.SEEK_SET)
        original(fd, [memoryview(whole)], see)

    arena.write_chunks = changed  # type: ignore[assignment]


def lose_power_after_record(number: int) -> None:
    """What was not synced is lost, as when a machine loses its power at that record.

    The journal ends within the record after the last flush; files that keep updates are empty, unless synced.
    """
    synced = 0
    flush, append, fsync = Journal.flush, Journal.append, os.fsync
    opened: list[Journal] = []
    on_disk: set[int] = set()

    def remembered(descriptor: int) -> None:
        fsync(descriptor)
        on_disk.add(os.fstat(descriptor).st_ino)

    def flushed(self: Journal) -> None:
        nonlocal synced
        flush(self)
        synced = self._end

    def cut() -> None:
        (journal,) = opened
        directory = _directory_of(journal)
        os.ftruncate(
            journal._descriptor, (synced + journal._end + 1) // 2 if journal._end > synced else synced
        )
        for path in (directory / "payloads").glob("update-*"):
            if path.stat().st_ino not in on_disk:
                os.truncate(path, 0)
        _end()

    nth = _nth(number, cut)

    def appended(self: Journal, at: float, kind: str, **fields: Any) -> None:
        append(self, at, kind, **fields)
        opened[:] = [self]
        nth()

    Journal.flush, Journal.append = flushed, appended  # type: ignore[method-assign]
    os.fsync = remembered


def fill_disk_at(kind: str, number: int, directory: str) -> None:
    """After the ``number``-th record of ``kind`` the file system of ``directory`` is full."""

    def fill(run_directory: Path) -> None:
        with contextlib.suppress(OSError), Path(directory, "filler").open("wb", 0) as file:
            while True:
                file.write(bytes(4096))

    _at(kind, number, fill)


def remove_payloads_at(kind: str, number: int) -> None:
    """After the ``number``-th record of ``kind`` everything that the payload store holds is gone."""

    def remove(directory: Path) -> None:
        for path in (directory / "payloads").iterdir():
            if PAYLOAD.fullmatch(path.name):
                path.unlink(missing_ok=True)  # a thread of the server may evict it just now

    _at(kind, number, remove)
