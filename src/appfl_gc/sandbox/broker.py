"""A private RabbitMQ node: own data, cookie, name and ports, on loopback only, gone when this process is."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appfl_gc.sandbox.children import reserve_port, start_child
from appfl_gc.sandbox.errors import SandboxError

INSTALL = "sudo apt-get install --no-install-recommends rabbitmq-server"
SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Debian's and Fedora's scripts; the ones that they put on PATH only run the system's own node."""
SYSTEM = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
START_SECONDS = 60.0


def find_server(path: str, scripts: Path = SCRIPTS) -> str:
    """The ``rabbitmq-server`` to run: one on ``path`` that is not the system's wrapper, else the system's script.

    Raises:
        SandboxError: if there is none.
    """
    own = os.pathsep.join(part for part in path.split(os.pathsep) if part and part not in SYSTEM)
    found = shutil.which("rabbitmq-server", path=own) or shutil.which("rabbitmq-server", path=str(scripts))
    if found is None:
        raise SandboxError(
            "The sandbox needs RabbitMQ, and there is no rabbitmq-server on PATH or in /usr/lib/rabbitmq/bin.",
            f"Install it (the system's own broker need not run): {INSTALL}",
        )
    return found


class RabbitNode:
    """A running node; ``start`` it from the thread that lives as long as it should."""

    def __init__(self, directory: Path, host: str, definitions: Mapping[str, Any]) -> None:
        """Prepare a node that keeps all its files in ``directory`` and loads ``definitions`` (users, queues)."""
        self._directory = directory
        self._host = host
        self._definitions = definitions
        self._ports = [reserve_port(host) for _ in range(3)]
        self._name = f"sandbox-{secrets.token_hex(4)}@localhost"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def port(self) -> int:
        """Where it speaks AMQP."""
        return self._ports[0].number

    @property
    def pids(self) -> dict[str, int]:
        """Its processes by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def start(self) -> None:
        """Start what of the node does not run, and wait until it takes connections.

        Raises:
            SandboxError: if RabbitMQ is missing, or does not start.
        """
        server = find_server(os.environ.get("PATH", os.defpath))
        epmd = shutil.which("epmd")
        if epmd is None:
            raise SandboxError(
                "The sandbox needs Erlang's epmd, and it is not on PATH.",
                f"Install it with RabbitMQ: {INSTALL}",
            )
        if not self._processes:
            self._write_files()
        environment = self._environment()
        log = self._directory / "broker.log"
        # Without one of ours the node would start a daemon of its own, which nothing ends.
        commands = {
            "epmd": [epmd, "-address", self._host, "-port", str(self._ports[2].number)],
            "broker": [server],
        }
        for name, command in commands.items():
            if not self._runs(name):
                self._processes[name] = start_child(command, environment, log, self._directory)
        self._wait(log)

    def keep(self) -> bool:
        """Start again what has ended, with what is in its queues; whether anything had.

        Raises:
            SandboxError: if it does not start.
        """
        if all(self._runs(name) for name in self._processes):
            return False
        self.start()
        return True

    def _runs(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def stop(self) -> None:
        """Kill it: its data are of no use to anybody."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    def _write_files(self) -> None:
        cookie = self._directory / ".erlang.cookie"
        cookie.unlink(missing_ok=True)
        cookie.touch(mode=0o600)
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        definitions = self._directory / "definitions.json"
        definitions.touch(mode=0o600)
        definitions.write_text(json.dumps(self._definitions))
        (self._directory / "enabled_plugins").write_text("[].")
        (self._directory / "rabbitmq.conf").write_text(
            f"load_definitions = {definitions}\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            "vm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 50MB\n"
        )

    def _environment(self) -> dict[str, str]:
        directory = str(self._directory)
        amqp, distribution, epmd = (str(port.number) for port in self._ports)
        octets = self._host.replace(".", ",")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": directory,
            "ERL_CRASH_DUMP": f"{directory}/erl_crash.dump",
            "ERL_EPMD_ADDRESS": self._host,
            "ERL_EPMD_PORT": epmd,
            # With input allowed the script becomes the node, so that one process id is the node's.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{{octets}}}",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{directory}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{directory}/enabled_plugins",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_IP_ADDRESS": self._host,
            "RABBITMQ_NODE_PORT": amqp,
            "RABBITMQ_DIST_PORT": distribution,
            "RABBITMQ_MNESIA_BASE": directory,
            "RABBITMQ_LOG_BASE": directory,
        }

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise SandboxError(
                        f"RabbitMQ's {name} ended with status {process.returncode} while it started.",
                        f"Its log is {log}:\n{_last_lines(log)}",
                    )
            try:
                with socket.create_connection((self._host, self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        raise SandboxError(
            f"RabbitMQ took no connection within {START_SECONDS:.0f} s.",
            f"Its log is {log}:\n{_last_lines(log)}",
        )


def _last_lines(path: Path, count: int = 15) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])
