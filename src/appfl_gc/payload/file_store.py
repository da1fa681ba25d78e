"""Payloads as files of a directory that server and sites share."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from appfl_gc.payload import checksum
from appfl_gc.payload.codec import CODEC, Encoding
from appfl_gc.payload.files import PIECE, map_private, replacing, sync_directory, write_all, write_chunks
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

LOCATOR = re.compile(r"[0-9a-f]{32}\.safetensors")


class FileStore:
    """One file per payload under an unguessable name.

    A locator is a bare file name, checked against a pattern; links are not followed, and only regular files
    of the size that the reference says are opened. So no reference makes the holder of the store read or
    delete anything outside its directory.

    Args:
        directory: absolute path that both sides see. Files get its read permissions (a directory of mode 0700
            has files of mode 0600).
        create: make the directory, for this user alone, if it is absent.
        locator: the one name that ``put`` uses, as a grant says; None for a new name each time.
        fsync: have every payload on the disk before its reference is given away. Off: a payload that a power
            failure takes is computed again.

    Raises:
        TransferError: if the directory cannot be made.
    """

    scheme = "file"

    def __init__(
        self,
        directory: str | Path,
        *,
        create: bool = True,
        locator: str | None = None,
        fsync: bool = False,
    ) -> None:
        self.directory = Path(directory).absolute()
        self._locator = locator
        self._fsync = fsync
        if create:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise TransferError(
                    f"The payload directory {self.directory} cannot be made: {error}."
                ) from None

    def put(self, encoding: Encoding) -> Ref:
        """See ``Store.put``. Bytes go from the tensors to the file in one pass with their checksum."""
        locator = self._locator or _new_locator()
        hasher = checksum.start()
        try:
            with replacing(self.directory / locator, mode=self._file_mode(), fsync=self._fsync) as fd:
                write_chunks(fd, encoding.chunks(), hasher.update)
        except OSError as error:
            raise self._cannot_write(error) from None
        return Ref(self.scheme, locator, encoding.size, checksum.text(hasher), CODEC)

    def adopt(self, path: Path) -> Ref:
        """A reference to a payload that is a file already, such as a global model: a second name, no copy.

        ``path`` stays as it is, also when the reference is evicted. A file of another file system is copied.

        Raises:
            TransferError: if neither works.
        """
        locator = _new_locator()
        target = self.directory / locator
        try:
            try:
                os.link(path, target, follow_symlinks=False)
                target.chmod(self._file_mode())
            except OSError:
                with path.open("rb") as source, replacing(target, mode=self._file_mode(), fsync=False) as fd:
                    while chunk := source.read(PIECE):
                        write_all(fd, memoryview(chunk))
            if self._fsync:
                sync_directory(self.directory)
            size = target.stat().st_size
            with target.open("rb") as file:
                digest = checksum.of(map_private(file.fileno(), size))
        except (OSError, ValueError) as error:
            raise self._cannot_write(error) from None
        return Ref(self.scheme, locator, size, digest, CODEC)

    @contextlib.contextmanager
    def open(self, ref: Ref) -> Iterator[memoryview]:
        """See ``Store.open``."""
        fd = self.descriptor(ref)
        try:
            buffer = map_private(fd, ref.size)
        except (OSError, ValueError) as error:
            raise TransferError(f"Payload {ref.locator} cannot be mapped: {error}.") from None
        finally:
            os.close(fd)
        checksum.check(buffer, ref.checksum, f"Payload {ref.locator}")
        yield buffer

    def descriptor(self, ref: Ref) -> int:
        """See ``Store.descriptor``."""
        path = self._path(ref)
        try:
            # O_NONBLOCK: a named pipe in the file's place must not hold us up.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TransferError(
                f"Payload {path} cannot be read: {error.strerror}.",
                "Server and sites need a payload directory on a file system that they share.",
            ) from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != ref.size:
            os.close(fd)
            raise TransferError(f"Payload {path} is not a regular file of {ref.size:,} bytes.")
        return fd

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``; raises ``TransferError`` if the locator is not one of this store."""
        try:
            self._path(ref).unlink(missing_ok=True)
        except OSError as error:
            raise TransferError(f"Payload {ref.locator} cannot be removed: {error}.") from None

    def grant(self) -> dict[str, Json]:
        """See ``Store.grant``."""
        return {
            "scheme": self.scheme,
            "directory": str(self.directory),
            "locator": _new_locator(),
            "fsync": self._fsync,
        }

    def _path(self, ref: Ref) -> Path:
        if ref.scheme != self.scheme or not LOCATOR.fullmatch(ref.locator):
            raise TransferError("A payload reference has a locator that this store never gave.")
        return self.directory / ref.locator

    def _file_mode(self) -> int:
        return 0o600 | (stat.S_IMODE(self.directory.stat().st_mode) & 0o044)

    def _cannot_write(self, error: Exception) -> TransferError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return TransferError(
            f"A payload cannot be written to {self.directory}: {reason}.",
            "The directory must exist on this machine, be writable, and have room for the model.",
        )


def _new_locator() -> str:
    return f"{secrets.token_hex(16)}.safetensors"
