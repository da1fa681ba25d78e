"""The run directory: everything that a run leaves behind, in one place."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appfl_gc.payload.files import replacing, write_all
from appfl_gc.protocol.errors import StorageError
from appfl_gc.protocol.file_name import file_name_part


def new_run_id(now: time.struct_time) -> str:
    """The time and a random suffix: ``2026-11-21-09-30-00-1f3a9c``."""
    return f"{time.strftime('%Y-%m-%d-%H-%M-%S', now)}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class RunDirectory:
    """Names of what lies in a run directory.

    ========================  =====================================================================
    ``config.json``           the resolved configuration, secrets redacted
    ``environment.json``      versions, host and processors of the server
    ``invocation.json``       what the run was started with, for ``resume``; no secrets
    ``leases/``               which process runs the run, the newest number last
    ``stores.json``           where payloads lay in S3 or ProxyStore, for ``runs clean``; no secrets
    ``journal.jsonl``         what the run did, checksummed: what ``resume`` goes on from
    ``metrics.jsonl``         a row per client and round, and a row per round
    ``server.log``            the server's log; also under its published name
    ``clients/``              the lines of each client's log that travelled back
    ``model.safetensors``     the final global model
    ``checkpoints/``          ``last.safetensors`` and ``best.safetensors``
    ``payloads/``             models and updates that are needed to go on; empty when the run has finished
    ``local/``                working directory, logs and state of the workers on this machine
    ========================  =====================================================================
    """

    path: Path

    @classmethod
    def create(cls, parent: Path, run_id: str) -> RunDirectory:
        """Make ``parent/run_id`` with its folders, private to the user.

        Raises:
            StorageError: if that is not possible.
        """
        path = (parent / run_id).absolute()
        try:
            path.mkdir(parents=True, mode=0o700)
            for name in ("clients", "checkpoints", "payloads", "local"):
                (path / name).mkdir()
        except OSError as error:
            raise StorageError(
                f"The run directory {path} can't be made: {error.strerror}.",
                "Set server_configs.logging_output_dirname to a directory that you can write.",
            ) from None
        return cls(path)

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.path / "journal.jsonl"

    @property
    def metrics(self) -> Path:
        """The metrics file."""
        return self.path / "metrics.jsonl"

    @property
    def server_log(self) -> Path:
        """The server's log."""
        return self.path / "server.log"

    @property
    def model(self) -> Path:
        """The final model."""
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The newest global model."""
        return self.path / "checkpoints" / "last.safetensors"

    @property
    def best(self) -> Path:
        """The global model with the lowest loss so far."""
        return self.path / "checkpoints" / "best.safetensors"

    @property
    def payloads(self) -> Path:
        """Tensors on their way."""
        return self.path / "payloads"

    @property
    def local(self) -> Path:
        """What the workers on this machine need."""
        return self.path / "local"

    @property
    def initial(self) -> Path:
        """The file of the global model's version 0."""
        return self.payloads / "initial.safetensors"

    def version_file(self, version: int) -> Path:
        """The file of version ``version`` of the global model, from 1."""
        return self.payloads / f"global-{version}.safetensors"

    def kept_update(self, client: str, dispatch: int) -> Path:
        """The file that keeps an accepted update until it is folded."""
        return self.payloads / f"update-{dispatch}-{file_name_part(client)}.safetensors"

    def client_log(self, client: str) -> Path:
        """The log lines of one client."""
        return self.path / "clients" / f"{file_name_part(client)}.log"

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write ``name`` as indented JSON, at once or not at all."""
        text = json.dumps(content, indent=2, default=str) + "\n"
        with replacing(self.path / name) as file:
            write_all(file, memoryview(text.encode()))

    def keep_model(self, source: Path, target: Path) -> None:
        """Make ``target`` the same model as ``source``, at once or not at all; linked where that is possible."""
        aside = target.with_suffix(".tmp")
        aside.unlink(missing_ok=True)
        try:
            os.link(source, aside)
        except OSError:
            shutil.copyfile(source, aside)
            descriptor = os.open(aside, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        aside.replace(target)
        # Where both were names of one file already, that has done nothing.
        aside.unlink(missing_ok=True)

    def clear_payloads(self) -> None:
        """Remove what is left of the payloads and of the local site's state: the run needs them no more."""
        shutil.rmtree(self.payloads, ignore_errors=True)
        shutil.rmtree(self.local / "site", ignore_errors=True)
