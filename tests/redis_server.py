"""A real Redis server on loopback, Debian's ``redis-server``, without persistence."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import redis

from appfl_gc.sandbox.children import reserve_port, start_child

HOST = "127.0.0.1"


def why_not() -> str:
    """Why there can't be a server on this machine, or ""."""
    return "" if shutil.which("redis-server") else "needs the program redis-server"


class RedisServer:
    """A running, empty server. It dies with the process that started it.

    Attributes:
        port: where it listens.
    """

    def __init__(self, directory: Path, settings: dict[str, str]) -> None:
        self.directory = directory
        self._port = reserve_port(HOST)
        self.port = self._port.number
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: Path, **settings: str) -> RedisServer:
        """Start a server; it answers when this returns. Settings are those of redis.conf, ``_`` for ``-``."""
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(directory, settings)
        server.resume()
        return server

    @property
    def configs(self) -> dict[str, object]:
        """``connector_configs`` of a RedisConnector."""
        return {"hostname": HOST, "port": self.port}

    def client(self) -> redis.Redis:
        """A plain client, with the password if there is one."""
        return redis.Redis(HOST, self.port, password=self._settings.get("requirepass"))

    def keys(self) -> set[str]:
        """All keys."""
        with self.client() as client:
            return {key.decode() for key in client.scan_iter("*")}

    def resume(self) -> None:
        """Start again after ``kill``, empty, on the same port."""
        settings = {
            "save": "",
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.directory),
            **self._settings,
        }
        words = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
        self._process = start_child(
            ["redis-server", *words], os.environ, self.directory / "log", self.directory
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.directory / "log").read_text()[-3000:]) from None
                time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once; its objects are gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
