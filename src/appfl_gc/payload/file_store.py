"""Payloads as files of a directory that server and sites share."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appfl_gc.payload import checksum
from appfl_gc.payload.encoded import Encoded, MappedFile
from appfl_gc.payload.files import PIECE, open_regular, replacing, sync_directory, write_all, write_chunks
from appfl_gc.payload.mailbox.file import FileServerMailbox, remove_mailboxes
from appfl_gc.payload.store import ignore
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
    remote = False

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

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """See ``Store.put``. Bytes go from the tensors to the file in one pass with their checksum.

        A file of the same file system gets a second name instead, and stays as it is when that one is evicted.
        """
        locator = self._locator or _new_locator()
        target = self.directory / locator
        if isinstance(payload, MappedFile) and self._linked(payload.path, target):
            digest = checksum.of(next(payload.chunks()))
        else:
            digest = self._write(payload, target)
        sent(payload.size)
        return Ref(self.scheme, locator, payload.size, digest, payload.codec)

    def _write(self, payload: Encoded, target: Path) -> str:
        running = checksum.Checksum()
        try:
            with replacing(target, mode=self._file_mode(), fsync=self._fsync) as fd:
                write_chunks(fd, payload.chunks(), running.update)
        except OSError as error:
            raise self._cannot_write(error) from None
        return str(running)

    def _linked(self, path: Path, target: Path) -> bool:
        try:
            os.link(path, target, follow_symlinks=False)
            target.chmod(self._file_mode())
            if self._fsync:
                sync_directory(self.directory)
        except OSError:
            return False
        return True

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """See ``Store.fetch``."""
        fd = self.descriptor(ref)
        try:
            done = 0
            while done < ref.size and (piece := os.read(fd, min(ref.size - done, PIECE))):
                write_all(file, memoryview(piece))
                done += len(piece)
                arrived(done)
        finally:
            os.close(fd)
        if done < ref.size:
            raise TransferError(f"Payload {ref.locator} became shorter while it was read.")

    def descriptor(self, ref: Ref) -> int:
        """See ``Store.descriptor``."""
        path = self._path(ref)
        try:
            fd = open_regular(path, ref.size)
        except OSError as error:
            raise TransferError(
                f"Payload {path} cannot be read: {error.strerror}.",
                "Server and sites need a payload directory on a file system that they share.",
            ) from None
        if fd is None:
            raise TransferError(f"Payload {path} is not a regular file of {ref.size:,} bytes.")
        return fd

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``; raises ``TransferError`` if the locator is not one of this store."""
        try:
            self._path(ref).unlink(missing_ok=True)
        except OSError as error:
            raise TransferError(f"Payload {ref.locator} cannot be removed: {error}.") from None

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """See ``Store.grant``."""
        return {
            "scheme": self.scheme,
            "directory": str(self.directory),
            "locator": _new_locator(),
            "fsync": self._fsync,
        }

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """See ``Store.withdraw``."""
        locator = grant.get("locator")
        if isinstance(locator, str) and LOCATOR.fullmatch(locator):
            (self.directory / locator).unlink(missing_ok=True)

    def mailbox(self, public: Mapping[str, Json] | None = None) -> FileServerMailbox:
        """See ``Store.mailbox``."""
        return FileServerMailbox(self.directory, None if public is None else str(public.get("name")))

    def sweep(self) -> None:
        """See ``Store.sweep``: mailboxes go; the run directory's owner removes the rest."""
        remove_mailboxes(self.directory)

    def close(self) -> None:
        """See ``Store.close``."""

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
