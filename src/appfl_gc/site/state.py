"""What clients' trainers remember between tasks: dual variables, penalties, a user's own tensors.

Each task writes a file of its own, under the number of its dispatch, and names the one that it goes on from: that of
the client's last dispatch whose update the server has accepted. So a task that is tried again, in another worker
or another job, finds the same state, and a task whose update never counted leaves no trace in later ones. Losing a
file costs convergence, never correctness: the trainer then begins anew.

A file is a safetensors file, read without executing anything. Its tensor ``appfl_gc.client_state`` holds JSON:
the version of this format, the trainer, and a checksum of the other tensors.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from appfl_gc.payload import codec, model_file
from appfl_gc.payload.checksum import Checksum, verify
from appfl_gc.protocol.errors import AppflGcError, StorageError, TransferError, UserCodeError
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.wire import Json, WireError, as_object, as_text, load_json
from appfl_gc.site.paths import digest
from appfl_gc.site.policy import OutboxLimits
from appfl_gc.site.room import Room

VERSION = 1
NOTE = "appfl_gc.client_state"
UNSETTLED = 3
"""How many states are kept of which the server has not yet said whether it accepted their updates."""


class StateLostError(AppflGcError):
    """The site does not have a client's state, or it is damaged or another trainer's."""


@dataclass(frozen=True)
class ClientStates:
    """The states of one client in one run.

    Attributes:
        directory: of all clients' states, ``SitePaths.clients``.
        run, client: whose.
        trainer: class name of the trainer; one does not read what another wrote.
    """

    directory: Path
    run: str
    client: str
    trainer: str

    @classmethod
    def of(cls, directory: Path, identity: CallId, trainer: str) -> ClientStates:
        """The states of the client that a call is for."""
        return cls(directory, identity.run, identity.client, trainer)

    @property
    def _folder(self) -> Path:
        return self.directory / digest(self.run) / digest(self.client)

    def _file(self, dispatch: int) -> Path:
        return self._folder / f"{dispatch:08d}.safetensors"

    def load(self, dispatch: int) -> dict[str, torch.Tensor]:
        """The state that ``dispatch`` left, mapped from its file.

        Raises:
            StateLostError: if there is none, or it can't be used; the message says why.
        """
        path = self._file(dispatch)
        try:
            tensors = model_file.open(path)
            note = _read_note(tensors.pop(NOTE, None))
            if note.get("version") != VERSION:
                raise WireError(f"It was written in version {note.get('version')!r} of its format.")
            writer = as_text(note.get("trainer"), "The trainer", 300)
            if writer != self.trainer:
                raise WireError(f"It was written by {writer}.")
            verify(_checksum(tensors), as_text(note.get("checksum"), "The checksum", 100), f"The file {path}")
        except (TransferError, WireError) as error:
            reason = f"{path} is not there" if not path.is_file() else f"{path} can't be used: {error}"
            raise StateLostError(
                f"What {self.trainer} remembered of dispatch {dispatch} is lost: {reason}."
            ) from None
        # The age limit counts from the last use.
        with contextlib.suppress(OSError):
            os.utime(path)
        return tensors

    def save(self, dispatch: int, state: Mapping[str, torch.Tensor]) -> None:
        """Keep ``state`` as what ``dispatch`` left; a reader sees all of it or nothing.

        It is on the disk when this returns: once the server has the update, this is the only copy.

        Raises:
            StorageError: if it can't be written.
            UserCodeError: if a tensor can't be stored (see ``codec.spec_of``), or has the name ``NOTE``.
        """
        if NOTE in state:
            raise UserCodeError(f"client_state() of the trainer {self.trainer} has a tensor called {NOTE}.")
        note: dict[str, Json] = {
            "version": VERSION,
            "trainer": self.trainer,
            "checksum": str(_checksum(state)),
        }
        text = torch.frombuffer(bytearray(json.dumps(note).encode()), dtype=torch.uint8)
        try:
            for directory in (self.directory, self._folder.parent, self._folder):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            model_file.write({**state, NOTE: text}, self._file(dispatch))
        except OSError as error:
            raise StorageError(
                f"The site can't keep what {self.trainer} must remember of client {self.client} in "
                f"{self.directory}: {error.strerror}.",
                "Make room there, or name another directory with APPFL_GC_SITE_STATE in worker_init.",
            ) from None

    def forget_before(self, base: int, dispatch: int) -> None:
        """Forget what no later task goes on from.

        Args:
            base: the last dispatch whose update the server has accepted; earlier states go.
            dispatch: the current one. Of those between the two, which the server may yet accept, the newest
                ``UNSETTLED`` stay.
        """
        between = []
        for path in self._folder.glob("*.safetensors"):
            number = int(path.stem) if path.stem.isdecimal() else -1
            if number < base:
                path.unlink(missing_ok=True)
            elif base < number < dispatch:
                between.append(path)
        for path in sorted(between)[:-UNSETTLED]:
            path.unlink(missing_ok=True)

    def keep_within(self, limits: OutboxLimits, logger: logging.Logger | None = None) -> None:
        """Make room among the states of all clients of the site; see ``Room``. Of this one the newest stays."""
        loss = "A client that was to go on from one begins with a new state (`client_state_lost`)."
        room = Room(self.directory, "clients' states", loss, ".safetensors")
        room.keep_within(limits, max(self._folder.glob("*.safetensors"), default=None), logger)


def _read_note(tensor: torch.Tensor | None) -> dict[str, Json]:
    if tensor is None:
        raise WireError("It says nothing of itself.")
    try:
        return as_object(load_json(bytes(tensor.numpy()).decode()), "What it says of itself")
    except (UnicodeDecodeError, TypeError):
        raise WireError("What it says of itself is not text.") from None


def _checksum(state: Mapping[str, torch.Tensor]) -> Checksum:
    """Of names, types, shapes and bytes, in the state's order."""
    running = Checksum()
    for name, tensor in state.items():
        running.update(memoryview(f"{name} {tensor.dtype} {list(tensor.shape)}".encode()))
        if tensor.numel():
            running.update(codec.tensor_bytes(tensor))
    return running
