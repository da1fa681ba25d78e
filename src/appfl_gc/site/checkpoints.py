"""Where an interrupted task goes on: what its trainer writes aside while it works.

A task that is tried again with the same request, in another worker or another job, begins where the last one left off
and ends with the same bits. Losing a checkpoint costs work, never correctness.

A file is a header of ``HEADER`` bytes, which says in JSON what follows (version, versions of who wrote it, steps,
bytes, checksum), and the state as ``torch.save`` writes it. It is read with ``weights_only``, which executes nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from appfl_gc.protocol.errors import AppflGcError, TransferError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.wire import Json, WireError, as_count, as_object, as_text, load_json
from appfl_gc.site.paths import digest
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.room import Room
from appfl_gc.version import VERSION as VERSION_OF_PROGRAM

VERSION = 1
HEADER = 1024
_MAGIC = b"appfl_gc checkpoint "


class CheckpointUnfitError(AppflGcError):
    """A task can't go on from a checkpoint, since model, data or optimiser are not what they were."""


@dataclass
class Checkpointer:
    """The checkpoint of one task.

    Attributes:
        path: its file.
        limits: of all checkpoints of the site together.
        logger: hears why a checkpoint can't be written or used, and which ones went to make room.
        steps: optimiser steps in the file that was written or read last; 0 where there is none.
    """

    path: Path
    limits: OutboxLimits = field(default_factory=OutboxLimits)
    logger: logging.Logger | None = None
    steps: int = 0
    _every_steps: int | None = None
    _every_seconds: float | None = None
    _last_steps: int = 0
    _last_time: float = 0.0

    @classmethod
    def of(
        cls,
        directory: Path,
        identity: CallId,
        request: str,
        limits: OutboxLimits,
        logger: logging.Logger | None = None,
    ) -> Checkpointer:
        """The checkpoint of the task that a call asks for.

        Args:
            directory: of all checkpoints, ``SitePaths.checkpoints``.
            identity: the call's; the attempt is of no meaning.
            request: a digest of what was asked; another request does not go on from this one's checkpoint.
            limits: how much the site keeps.
            logger: see the class.
        """
        folder = directory / digest(identity.run) / digest(identity.client)
        return cls(folder / f"{identity.round:08d}-{digest(request)}.checkpoint", limits, logger)

    def pace(self, steps: int | None, seconds: float | None) -> None:
        """Set how often ``due`` says yes: after so many steps, and after so many seconds; None for never."""
        self._every_steps, self._every_seconds = steps, seconds
        self._last_time = time.monotonic()

    def due(self, steps: int) -> bool:
        """Whether a checkpoint is to be written after ``steps`` steps of the task."""
        if self._every_steps is not None and steps - self._last_steps >= self._every_steps:
            return True
        return self._every_seconds is not None and time.monotonic() - self._last_time >= self._every_seconds

    def save(self, state: Mapping[str, Any], steps: int) -> bool:
        """Write ``state``, as it is after ``steps`` steps; a reader sees all of it or nothing.

        Args:
            state: tensors, numbers, texts and None, in dicts, lists and tuples.
            steps: of the whole task, also those of earlier attempts.

        Returns:
            Whether it was written. If not, the log says why, and an earlier checkpoint stays.
        """
        first = not self.path.exists()
        try:
            self._write(state, steps)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            reason = (
                (error.strerror or str(error)) if isinstance(error, OSError) else str(error).splitlines()[0]
            )
            self._warn(f"The checkpoint {self.path} can't be written: {reason}. The task goes on without it.")
            return False
        finally:
            self._last_steps, self._last_time = steps, time.monotonic()
        self.steps = steps
        if first:
            self._room().keep_within(self.limits, self.path, self.logger)
        return True

    def load(self) -> dict[str, Any] | None:
        """The state that was written last, and ``steps`` set; None where there is none, or it can't be used."""
        self._forget_superseded()
        if not self.path.is_file():
            return None
        try:
            state, self.steps = self._read()
        except Exception as error:  # noqa: BLE001  whatever a damaged or forged file makes its reader say
            self.reject((str(error) or type(error).__name__).splitlines()[0])
            return None
        self._last_steps, self._last_time = self.steps, time.monotonic()
        # The age limit counts from the last use.
        with contextlib.suppress(OSError):
            os.utime(self.path)
        return state

    def kept_steps(self) -> int:
        """Steps in the file, as its header says; 0 where there is none that says so."""
        try:
            with self.path.open("rb") as file:
                return as_count(_about(file.read(HEADER)).get("steps"), "The number of steps")
        except (OSError, ValueError):
            return 0

    def reject(self, reason: str) -> None:
        """Remove a file that nothing can go on from, and say why."""
        self._warn(f"The checkpoint {self.path} can't be used, so the task begins anew: {reason}")
        self.forget()

    def forget(self) -> None:
        """Remove the file: nobody needs it, since the task's answer is safe."""
        self.steps = self._last_steps = 0
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()

    def _write(self, state: Mapping[str, Any], steps: int) -> None:
        import torch

        from appfl_gc.payload.files import replacing, write_all_at

        top = self.path.parent.parent.parent
        for directory in (top, self.path.parent.parent, self.path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A checkpoint that a lost disk cache tears is found by its checksum, and costs work only.
        with replacing(self.path, fsync=False) as fd:
            write_all_at(fd, memoryview(bytes(HEADER)), 0)
            os.lseek(fd, HEADER, os.SEEK_SET)
            body = _Summed(fd)
            torch.save(dict(state), cast(BinaryIO, body))
            about = {"steps": steps, "size": body.size, "checksum": str(body.checksum), **_written_by()}
            header = _MAGIC + json.dumps({"version": VERSION, **about}).encode()
            write_all_at(fd, memoryview(header.ljust(HEADER)), 0)

    def _read(self) -> tuple[dict[str, Any], int]:
        import torch

        from appfl_gc.payload.checksum import check
        from appfl_gc.payload.files import map_private, open_no_link

        fd = open_no_link(self.path)
        try:
            size = os.fstat(fd).st_size
            if size <= HEADER:
                raise ValueError("it is torn.")
            view = map_private(fd, size)
        finally:
            os.close(fd)
        about = _about(bytes(view[:HEADER]))
        steps = as_count(about.get("steps"), "The number of steps")
        if about.get("size") != size - HEADER:
            raise ValueError("it is torn.")
        try:
            check(view[HEADER:], as_text(about.get("checksum"), "The checksum", 100), "It")
        except TransferError:
            raise ValueError("it is damaged.") from None
        state = torch.load(cast(BinaryIO, _Part(view[HEADER:])), weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it is not a checkpoint.")
        return state, steps

    def _forget_superseded(self) -> None:
        """A client has one task at a time: nothing goes on from those that came before."""
        current = self.path.name.partition("-")[0]
        for path in self.path.parent.glob("*.checkpoint"):
            if path != self.path and path.name.partition("-")[0] <= current:
                path.unlink(missing_ok=True)

    def _room(self) -> Room:
        loss = "A task that was to go on from one begins anew."
        return Room(self.path.parent.parent.parent, "checkpoints", loss, ".checkpoint")

    def _warn(self, sentence: str) -> None:
        if self.logger is not None:
            self.logger.warning("%s", sentence)


def _about(header: bytes) -> dict[str, Json]:
    """What a header says; raises ``ValueError`` where this program can't go on from what follows it."""
    if not header.startswith(_MAGIC):
        raise ValueError("it is not a checkpoint.")
    try:
        about = as_object(load_json(header[len(_MAGIC) :].decode()), "The header")
    except (WireError, UnicodeDecodeError):
        raise ValueError("its header is damaged.") from None
    if about.get("version") != VERSION:
        raise ValueError(f"it was written in version {about.get('version')!r} of its format.")
    if any(about.get(name) != value for name, value in _written_by().items()):
        raise ValueError("it was written by another version of torch or Python, or of this program.")
    return about


def _written_by() -> dict[str, Json]:
    """What must be the same for the same bits, beside the machine."""
    import torch

    return {
        "appfl_gc": VERSION_OF_PROGRAM,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


class _Summed(io.RawIOBase):
    """Writes to a descriptor, and adds up size and checksum."""

    def __init__(self, fd: int) -> None:
        from appfl_gc.payload.checksum import Checksum

        self._fd = fd
        self.size = 0
        self.checksum = Checksum()

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any) -> int:
        """All of ``data``."""
        from appfl_gc.payload.files import write_all

        view = memoryview(data).cast("B")
        write_all(self._fd, view)
        self.checksum.update(view)
        self.size += len(view)
        return len(view)


class _Part(io.RawIOBase):
    """Reads a view as a file; no copy of the whole."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; returns it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        self._at = min(max(start + offset, 0), len(self._view))
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as there is something."""
        target = memoryview(buffer).cast("B")
        part = self._view[self._at : self._at + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)
