"""The sandbox's process: keeps the broker, serves, and takes everything with it when it ends.

Started by ``sandbox.py`` as ``python -m appfl_gc.sandbox.host DIRECTORY SETTINGS [PARENT]``; it says on its stdout,
in one line of JSON, that it is ready or why it is not.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import IO

import psutil
import uvicorn
from globus_sdk.token_storage import SQLiteTokenStorage

from appfl_gc.sandbox.accounts import broker_definitions
from appfl_gc.sandbox.broker import RabbitNode
from appfl_gc.sandbox.children import reserve_port
from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.files import Description, SandboxFiles
from appfl_gc.sandbox.leftovers import end_endpoints
from appfl_gc.sandbox.proxy import Proxy
from appfl_gc.sandbox.service import AGENTS, CLIENTS, CLIENTS_443, Service
from appfl_gc.sandbox.settings import SandboxSettings

PARENT_SECONDS = 0.5
"""How often it looks whether the process that started it is there."""
DEFAULT_APPLICATION = "sandbox"


def main(arguments: list[str]) -> int:
    """Run a sandbox until a signal comes, or its parent has gone (if the arguments name one)."""
    files = SandboxFiles(Path(arguments[0]))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with os.fdopen(os.dup(1), "w") as answer, files.lock.open("a") as lock:
        os.dup2(2, 1)
        try:
            _lock(lock)
            node, description = _start(files, SandboxSettings.from_json(arguments[1]))
        except SandboxError as error:
            answer.write(json.dumps({"error": error.message, "hint": error.hint}) + "\n")
            return 1
        answer.write("{}\n")
        answer.close()
        parents = [int(argument) for argument in arguments[2:]]
        while not stop.wait(PARENT_SECONDS):
            if parents and os.getppid() not in parents:
                break
            if not _keep(node, description, files):
                break
        files.description.unlink(missing_ok=True)
        end_endpoints(files.root, node.pids.values())
        node.stop()
    return 0


def _lock(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SandboxError(
            f"A sandbox runs already in {Path(lock.name).parent}.",
            "End it with `appfl-gc sandbox down`, or give another --directory.",
        ) from None


def _keep(node: RabbitNode, description: Description, files: SandboxFiles) -> bool:
    """A broker that was killed comes back, as the cloud's would; whether there is one."""
    try:
        if node.keep():
            logging.warning("The broker had ended, and was started again.")
            replace(description, children=node.pids).write(files.description)
    except SandboxError as error:
        logging.error("%s %s", error.message, error.hint)
        return False
    return True


def _start(files: SandboxFiles, settings: SandboxSettings) -> tuple[RabbitNode, Description]:
    """Start the broker and the service, and write the description."""
    files.description.unlink(missing_ok=True)
    end_endpoints(files.root, patience=0)  # of a sandbox that was killed here
    # Agents that start side by side would all make it, and one of them fails at that.
    SQLiteTokenStorage(files.tokens).close()
    service = Service(settings, secrets.token_urlsafe(24))
    node = RabbitNode(files.broker, settings.host, broker_definitions(service.account, service.accounts))
    try:
        node.start()
        names = (CLIENTS, CLIENTS_443, AGENTS)
        ports = {name: reserve_port(settings.host) for name in names}
        service.connect(node.port, ports)
        password = secrets.token_urlsafe(16)
        app = Proxy(service.app(), password, _upstream())
        listening = socket.create_server((settings.host, 0))
        port = listening.getsockname()[1]
        _serve_in_thread(
            uvicorn.Config(app, http="h11", lifespan="off", log_level="warning"), listening, service
        )
    except BaseException:
        node.stop()
        raise
    description = Description(
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        url=f"http://{settings.host}:{port}",
        proxy=f"http://sandbox:{password}@{settings.host}:{port}",
        amqp_ports={name: port.number for name, port in ports.items()},
        admin_token=service.admin_token,
        login_key=service.logins.key,
        default=service.identities.add_application(DEFAULT_APPLICATION),
        children=node.pids,
    )
    description.write(files.description)
    return node, description


def _upstream() -> str | None:
    """The proxy for plain http that was set before the sandbox."""
    return urllib.request.getproxies().get("http")


def _serve_in_thread(config: uvicorn.Config, listening: socket.socket, service: Service) -> None:
    opened = threading.Event()
    refused: list[OSError] = []

    async def serve() -> None:
        try:
            for gate in service.gates.values():
                await gate.open()
        except OSError as error:
            refused.append(error)
            return
        finally:
            opened.set()
        await uvicorn.Server(config).serve(sockets=[listening])

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True, name="service").start()
    opened.wait()
    if refused:
        raise SandboxError(f"The sandbox can't listen on {service.settings.host}: {refused[0].strerror}.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    sys.exit(main(sys.argv[1:]))
