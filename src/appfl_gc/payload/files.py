"""Files of payloads: written aside and renamed, mapped without copying."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from appfl_gc.protocol.errors import StorageError

PIECE = 1 << 21
"""Bytes of a huge page. A file written in aligned pieces of it may lie in huge pages of the page cache, and is then
mapped at a fraction of the cost."""
_MOST_PARTS = 256


def write_all(fd: int, data: memoryview) -> None:
    """Write all bytes of ``data`` at the descriptor's position."""
    rest = data.cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_chunks(
    fd: int, chunks: Iterable[memoryview], see: Callable[[memoryview], None] = lambda chunk: None
) -> None:
    """Write ``chunks`` from the start of a new file, in pieces of ``PIECE`` bytes; ``see`` each part once.

    Args:
        fd: of an empty file.
        chunks: bytes in order.
        see: called with each part before it is written, while it is in the processor's cache.
    """
    parts: list[memoryview] = []
    left = PIECE
    for chunk in chunks:
        rest = chunk.cast("B")
        while rest:
            part, rest = rest[:left], rest[left:]
            see(part)
            parts.append(part)
            left -= len(part)
            if left == 0 or len(parts) == _MOST_PARTS:
                _write_parts(fd, parts)
                parts, left = [], left or PIECE
    _write_parts(fd, parts)


def _write_parts(fd: int, parts: list[memoryview]) -> None:
    written = os.writev(fd, parts) if parts else 0
    for part in parts:
        # After a short write the rest follows one by one.
        write_all(fd, part[written:])
        written = max(0, written - len(part))


def write_all_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all bytes of ``data`` at ``offset``."""
    rest = data.cast("B")
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def open_no_link(path: Path) -> int:
    """A descriptor of the file at ``path`` itself, for reading; raises ``OSError``, also for a link."""
    # O_NONBLOCK: a named pipe in the file's place must not hold us up.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def open_regular(path: Path, size: int) -> int | None:
    """A descriptor, for reading, of the regular file of ``size`` bytes at ``path``; None if it is something else.

    Raises:
        OSError: as ``open_no_link``.
    """
    fd = open_no_link(path)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode) and status.st_size == size:
        return fd
    os.close(fd)
    return None


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o600, fsync: bool = True) -> Iterator[int]:
    """A descriptor of a new file that becomes ``path`` when the block ends well, and vanishes otherwise.

    Args:
        path: the file; its directory must exist.
        mode: permissions of the file.
        fsync: whether the bytes are on the disk, and the name in its directory, before this returns.

    Raises:
        OSError: as the operating system says, such as a full disk; ``path`` is then as it was.
    """
    # Not the process's number: two hosts may write the same file.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    fd = os.open(aside, os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            yield fd
            if fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if fsync:
        sync_directory(path.parent)


def sync_file(path: Path) -> None:
    """Put a file and its name on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Put the names in ``directory`` on the disk."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def map_private(fd: int, size: int) -> memoryview:
    """Map ``size`` bytes (more than 0) of a file. Writing changes this process's copy only.

    The mapping lives as long as anything that was made from the view, also tensors.
    """
    mapping = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return memoryview(mapping)


def map_shared(fd: int, size: int) -> memoryview:
    """Map ``size`` bytes (more than 0) of a file for writing to it."""
    return memoryview(mmap.mmap(fd, size))


def nameless_file(size: int, directory: Path | None = None, *, reserve: bool = False) -> BinaryIO:
    """A file of ``size`` zeros without a name, which goes when it is closed and nothing maps it any more.

    ``give_name`` can give it one, where the file system lets it.

    Args:
        size: bytes.
        directory: where; None for the system's temporary directory.
        reserve: take the room now. Needed where the file is written through a mapping: a full disk would end the
            process there.

    Raises:
        StorageError: if it cannot be made.
    """
    try:
        file = _open_nameless(directory)
        os.ftruncate(file.fileno(), size)
        if reserve and size:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise StorageError(
            f"There is no room for a payload of {size:,} bytes in {directory or tempfile.gettempdir()}: "
            f"{error.strerror}.",
            "Make room there. TMPDIR names the directory for temporary files.",
        ) from None
    return file


def _open_nameless(directory: Path | None) -> BinaryIO:
    if sys.platform == "linux":
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        # Network file systems lack such files.
        with contextlib.suppress(OSError):
            return os.fdopen(os.open(directory or tempfile.gettempdir(), flags, 0o600), "w+b")
    # It opens such files too, but so that they can never get a name.
    return tempfile.TemporaryFile(dir=directory)


def give_name(fd: int, path: Path) -> bool:
    """Give an open file one more name, ``path``, without copying; False where the file system does not let us.

    What stood at ``path`` goes.
    """
    aside = f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # Only with a descriptor of a directory does Python follow the link to the file itself.
        os.link(f"/proc/self/fd/{fd}", aside, dst_dir_fd=directory, follow_symlinks=True)
        try:
            os.replace(aside, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            # It is still there where both are names of one file.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(aside, dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(directory)
    return True
