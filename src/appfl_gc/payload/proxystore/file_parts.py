"""Parts in a shared directory, as ProxyStore's ``FileConnector`` keeps objects.

An object is a file, beside which an empty file says that it is whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from appfl_gc.config.connectors import FileArguments
from appfl_gc.payload.files import open_regular, replacing, write_chunks
from appfl_gc.payload.proxystore.parts import Landing
from appfl_gc.payload.retry import check
from appfl_gc.protocol.errors import TransferError

_READY = ".ready"
_PIECE = 4 << 20
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}-\d{1,6}\.[0-9a-f]{8}\.part")
"""What ``replacing`` calls a file of ours that is still written."""
OLD_SECONDS = 8 * 24 * 3600
"""Since its last write; a put that is so old was killed."""


class FileParts:
    """See ``Parts``. Files get the directory's read permissions. A payload is one file, which is mapped where it lies.

    Args:
        arguments: of the connector.
        stop: ends transfers once it is set.
        create: make the directory, for this user alone, if it is absent; a site does not: then it is hardly shared.

    Raises:
        TransferError: if it can't be made.
    """

    part_bytes = 1 << 40
    streams = True
    places = ("",)

    def __init__(self, arguments: FileArguments, stop: threading.Event, *, create: bool = False) -> None:
        self.directory = Path(arguments.store_dir).expanduser().absolute()
        self._stop = stop
        if create:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise TransferError(
                    f"The directory {self.directory} can't be made: {error.strerror}."
                ) from None
            self.tidy()

    def put(self, name: str, part: Iterable[memoryview], sent: Callable[[int], None]) -> str:
        """See ``Parts.put``."""
        done = 0

        def see(piece: memoryview) -> None:
            nonlocal done
            check(self._stop, "A transfer by shared files")
            sent(done)
            done += len(piece)

        try:
            mode = 0o600 | (stat.S_IMODE(self.directory.stat().st_mode) & 0o044)
            with replacing(self.directory / name, mode=mode, fsync=False) as file:
                write_chunks(file, part, see)
            (self.directory / (name + _READY)).touch(mode=mode)
        except OSError as error:
            raise TransferError(
                f"A payload cannot be written to {self.directory}: {error.strerror}.",
                "The directory must exist on this machine, be writable, and have room for the model. Server and "
                "site must see the same directory.",
            ) from None
        sent(done)
        return ""

    def get(self, name: str, where: str, landing: Landing) -> None:
        """See ``Parts.get``."""
        file = self.open(name, where, landing.size)
        try:
            while data := os.pread(file, min(landing.left, _PIECE), landing.landed):
                check(self._stop, "A transfer by shared files")
                landing.write(memoryview(data))
        except OSError as error:
            raise TransferError(
                f"The object {self.directory / name} can't be read: {error.strerror}."
            ) from None
        finally:
            os.close(file)

    def open(self, name: str, where: str, size: int) -> int:
        """See ``Parts.open``. Nothing but a regular file of this size is opened; links are not followed."""
        path = self.directory / name
        try:
            file = open_regular(path, size)
        except OSError as error:
            raise TransferError(
                f"The object {path} can't be read: {error.strerror}.",
                "Server and site must see the same directory, and both be permitted to read its files.",
            ) from None
        if file is None:
            raise TransferError(f"{path} is not a regular file of {size:,} bytes.")
        return file

    def holds(self, name: str, where: str) -> bool:
        """See ``Parts.holds``."""
        return os.path.lexists(self.directory / name)

    def drop(self, name: str, where: str) -> None:
        """See ``Parts.drop``."""
        path = self.directory / name
        try:
            path.unlink(missing_ok=True)
            (self.directory / (name + _READY)).unlink(missing_ok=True)
        except OSError as error:
            raise TransferError(f"The object {path} can't be removed: {error.strerror}.") from None

    def tidy(self) -> None:
        """See ``Parts.tidy``: unfinished files of eight days ago, as far as they may be removed from here."""
        with contextlib.suppress(OSError), os.scandir(self.directory) as entries:
            for entry in entries:
                if not _UNFINISHED.fullmatch(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD_SECONDS:
                        Path(entry.path).unlink()

    def close(self) -> None:
        """See ``Parts.close``; ProxyStore's own connector would remove the whole directory."""
