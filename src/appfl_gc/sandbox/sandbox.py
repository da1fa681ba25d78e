"""A sandbox from outside: start it, use it, stop it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from appfl_gc.sandbox.control import Control, FaultControl
from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.files import Credentials, Description, SandboxFiles
from appfl_gc.sandbox.leftovers import end_endpoints, endpoint_processes
from appfl_gc.sandbox.settings import SandboxSettings

STOP_SECONDS = 60.0
REQUIRED = ("fastapi", "httpx", "pika", "uvicorn")


class Sandbox:
    """A running Globus Compute service for this machine; a context manager that stops it.

    Attributes:
        files: where it keeps what.
        description: ports, pids, credentials.
        faults: what is to go wrong.
    """

    def __init__(
        self, files: SandboxFiles, description: Description, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        """Use ``start`` or ``attach``."""
        self.files = files
        self.description = description
        self._control = Control(description)
        self.faults = FaultControl(self._control)
        self._process = process

    @classmethod
    def start(cls, directory: Path, settings: SandboxSettings | None = None, stay: bool = False) -> Sandbox:
        """Start one that keeps all its files in ``directory``; returns when it takes requests (some seconds).

        Args:
            directory: made if it does not exist.
            settings: the knobs.
            stay: whether it goes on when this process ends; else it ends too, however this process ends.

        Raises:
            SandboxError: if something it needs is missing, it can't start, or one runs in ``directory`` already.
        """
        missing = [name for name in REQUIRED if find_spec(name) is None]
        if missing:
            raise SandboxError(
                f"The sandbox needs the Python packages {', '.join(missing)}.",
                "Install them, in a copy of this project: pip install -e '.[sandbox]'",
            )
        files = SandboxFiles(directory.resolve())
        if not files.are_ours():
            raise SandboxError(
                f"{files.root} has files that are not a sandbox's.", "Give an empty or new directory."
            )
        files.create()
        process, answer = _launch(files, settings or SandboxSettings(), None if stay else os.getpid())
        description = Description.read(files.description)
        if description is None or description.pid != process.pid:
            process.wait()
            error = answer.get("error", "The sandbox ended while it started.")
            raise SandboxError(error, answer.get("hint", f"Its log is {files.log}."))
        return cls(files, description, process)

    @classmethod
    def attach(cls, directory: Path) -> Sandbox | None:
        """The sandbox that runs in ``directory``; ``None`` if none does."""
        files = SandboxFiles(directory.resolve())
        description = Description.read(files.description)
        if description is None or _process_of(description) is None:
            return None
        return cls(files, description)

    @property
    def environment(self) -> dict[str, str]:
        """What the SDK and the agents need in their environment, to be laid over this process's."""
        return environment_for(self.description, self.files, os.environ)

    def environment_of(self, credentials: Credentials) -> dict[str, str]:
        """As ``environment``, for another application."""
        ids = {"GLOBUS_COMPUTE_CLIENT_ID": credentials.client_id}
        return {**self.environment, **ids, "GLOBUS_COMPUTE_CLIENT_SECRET": credentials.client_secret}

    @property
    def endpoints_directory(self) -> Path:
        """The agents' directory (``GLOBUS_COMPUTE_USER_DIR``)."""
        return self.files.endpoints

    @property
    def credentials(self) -> Credentials:
        """The application that ``environment`` names."""
        return self.description.default

    @property
    def login_environment(self) -> dict[str, str]:
        """As ``environment``, but for a person: there is no application in it, so the SDK asks for a login."""
        return {
            name: value
            for name, value in self.environment.items()
            if name not in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET")
        }

    def log_in(self, authorize_url: str) -> str:
        """Do a person's part of a login: the code that the login page shows for the URL that the SDK printed.

        Raises:
            SandboxError: if the page refuses, or sends the code to another address.
        """
        return self._control.log_in(authorize_url)

    def add_identity(self, name: str) -> Credentials:
        """Register another application with an identity of its own."""
        return Credentials(**self._control.post("applications", {"name": name}))

    def inject_result(
        self, task_id: str, data: str, as_exception: bool = False, details: Mapping[str, Any] | None = None
    ) -> None:
        """End a task with a text of the caller's choice, live and stored, as a hostile site could.

        Raises:
            SandboxError: if there is no such task, or it has ended.
        """
        body = {"task_id": task_id, "data": data, "failed": as_exception, "details": dict(details or {})}
        self._control.post("results", body)

    def state(self) -> dict[str, Any]:
        """What is inside.

        ``amqp_connections`` (now) and ``amqp_accepted`` (ever), by way to the broker; ``requests`` (time, method, path,
        status); ``endpoints``, ``user_endpoints`` and ``tasks`` with their ids and states.
        """
        state: dict[str, Any] = self._control.get("state")
        return state

    @property
    def pids(self) -> dict[str, int]:
        """Its own processes by name: ``service``, ``broker``, ``epmd``."""
        # The broker's are others once it was started again.
        now = Description.read(self.files.description) or self.description
        return {"service": now.pid, **now.children}

    def endpoint_pids(self) -> list[int]:
        """The processes of all endpoints that run against it."""
        return [one.pid for one in endpoint_processes(self.files.root, self.pids.values())]

    def remove(self) -> None:
        """Stop it, and remove its directory."""
        self.stop()
        shutil.rmtree(self.files.root, ignore_errors=True)

    def stop(self) -> None:
        """End its endpoints, its service and its broker; returns when no process of it is left."""
        process = _process_of(self.description)
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
        if self._process is not None:
            self._process.wait()
        self.files.description.unlink(missing_ok=True)
        end_endpoints(self.files.root, patience=0)  # what a killed service could not end

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _launch(
    files: SandboxFiles, settings: SandboxSettings, parent: int | None
) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start the sandbox's process, and wait until it says that it is ready (empty) or why it can't be."""
    command = [sys.executable, "-m", "appfl_gc.sandbox.host", str(files.root), settings.to_json()]
    command += [] if parent is None else [str(parent)]
    with files.log.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    answer = b""
    try:
        if process.stdout is not None:
            with process.stdout as stream:
                answer = stream.read()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    told: dict[str, str] = json.loads(answer or b"{}")
    return process, told


def environment_for(
    description: Description, files: SandboxFiles, outer: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a sandbox. Loopback servers that are named 127.0.0.1 are not reached by its proxy."""
    spared = (outer.get("no_proxy") or outer.get("NO_PROXY") or "").split(",")
    spared = [one.strip() for one in spared if one.strip() and one.strip() not in ("*", "localhost")]
    no_proxy = ",".join(dict.fromkeys([*spared, "127.0.0.1"]))
    return {
        "GLOBUS_SDK_ENVIRONMENT": "local",
        "GLOBUS_SDK_SERVICE_URL_AUTH": f"{description.url}/",
        "GLOBUS_COMPUTE_CLIENT_ID": description.default.client_id,
        "GLOBUS_COMPUTE_CLIENT_SECRET": description.default.client_secret,
        "GLOBUS_COMPUTE_USER_DIR": str(files.endpoints),
        "HTTP_PROXY": description.proxy,
        "http_proxy": description.proxy,
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def _process_of(description: Description) -> psutil.Process | None:
    try:
        process = psutil.Process(description.pid)
        # Another process may have got the id since.
        return process if abs(process.create_time() - description.started) < 0.1 else None
    except psutil.NoSuchProcess:
        return None
