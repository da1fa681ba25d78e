"""Mailboxes in a directory that server and sites share: the mark is a file, and progress another."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from appfl_gc.payload.files import open_no_link, replacing, write_all
from appfl_gc.payload.mailbox.base import TaskProgress
from appfl_gc.payload.mailbox.progress_json import LENGTH, progress_bytes, read_progress
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.wire import Json, WireError, as_key

NAME = re.compile(r"[0-9a-f]{32}")


class FileServerMailbox:
    """See ``ServerMailbox``.

    Args:
        directory: absolute path that both sides see.
        name: of the mailbox, unguessable; None for a new one, whose mark is put there.

    Raises:
        TransferError: if the mark can't be written, or the name is not one of a mailbox.
    """

    def __init__(self, directory: Path, name: str | None = None) -> None:
        self._directory = directory
        self._name = secrets.token_hex(16) if name is None else name
        if not NAME.fullmatch(self._name):
            raise TransferError("A mailbox has a name that this store never gave.")
        if name is None:
            try:
                _mark(directory, self._name).touch(mode=_mode(directory))
            except OSError as error:
                raise TransferError(
                    f"A mailbox can't be made in {directory}: {error.strerror}.",
                    "The directory must exist on this machine and be writable.",
                ) from None

    @property
    def grant(self) -> dict[str, Json]:
        """See ``ServerMailbox``."""
        return {"scheme": "file", "directory": str(self._directory), "name": self._name}

    @property
    def public(self) -> dict[str, Json]:
        """See ``ServerMailbox``; the grant, which gives no access by itself."""
        return self.grant

    def progress(self) -> TaskProgress | None:
        """See ``ServerMailbox``."""
        try:
            fd = open_no_link(_progress(self._directory, self._name))
            try:
                return read_progress(os.read(fd, LENGTH))
            finally:
                os.close(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TransferError(f"A mailbox in {self._directory} can't be read: {error.strerror}.") from None

    def remove(self) -> None:
        """See ``ServerMailbox``."""
        try:
            _mark(self._directory, self._name).unlink(missing_ok=True)
            _progress(self._directory, self._name).unlink(missing_ok=True)
        except OSError as error:
            raise TransferError(
                f"A mailbox in {self._directory} can't be removed: {error.strerror}."
            ) from None


class FileSiteMailbox:
    """See ``SiteMailbox``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    @classmethod
    def from_grant(cls, grant: Mapping[str, Json]) -> FileSiteMailbox:
        """The mailbox that a server granted; raises ``WireError``."""
        directory = as_key(grant.get("directory"), "The mailbox's directory", 4000)
        name = as_key(grant.get("name"), "The mailbox's name", 100)
        if not directory.startswith("/") or not NAME.fullmatch(name):
            raise WireError("The mailbox is not one that this store gives.")
        return cls(Path(directory), name)

    def wanted(self) -> bool:
        """See ``SiteMailbox``. A site that does not see the directory does not know."""
        try:
            # Opened, since a network file system may answer from memory whether a file is there.
            os.close(open_no_link(_mark(self._directory, self._name)))
        except FileNotFoundError:
            return not self._directory.is_dir()
        except OSError:
            pass
        return True

    def tell(self, progress: TaskProgress) -> None:
        """See ``SiteMailbox``."""
        with contextlib.suppress(OSError):
            path = _progress(self._directory, self._name)
            with replacing(path, mode=_mode(self._directory), fsync=False) as fd:
                write_all(fd, memoryview(progress_bytes(progress)))

    def close(self) -> None:
        """See ``SiteMailbox``; there is nothing to drop."""


def remove_mailboxes(directory: Path) -> None:
    """Remove every mailbox in ``directory``, so that all sites with one stop.

    Raises:
        TransferError: if one can't be removed.
    """
    try:
        for pattern in ("*.mark", "*.progress", ".*.progress.*.part"):
            for path in directory.glob(pattern):
                if NAME.fullmatch(path.name.lstrip(".").partition(".")[0]):
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise TransferError(f"A mailbox in {directory} can't be removed: {error.strerror}.") from None


def _mark(directory: Path, name: str) -> Path:
    return directory / f"{name}.mark"


def _progress(directory: Path, name: str) -> Path:
    return directory / f"{name}.progress"


def _mode(directory: Path) -> int:
    """Read by whoever may read in the directory, as payloads are."""
    return 0o600 | (directory.stat().st_mode & 0o044)
