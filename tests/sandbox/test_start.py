"""What a sandbox needs, and what it refuses to be."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

import pika
import psutil
import pytest

from appfl_gc.sandbox.broker import find_server
from appfl_gc.sandbox.children import reserve_port
from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.sandbox import Sandbox, environment_for
from appfl_gc.sandbox.settings import SandboxSettings
from tests.sandbox.rest import Rest, wait_until


def test_a_missing_broker_is_told_with_the_line_that_installs_it(tmp_path: Path) -> None:
    with pytest.raises(SandboxError) as caught:
        find_server(f"{tmp_path}:/usr/sbin:/usr/bin", scripts=tmp_path)
    assert "no rabbitmq-server" in caught.value.message
    assert "apt-get install --no-install-recommends rabbitmq-server" in caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "localhost.example.org"])
def test_only_loopback_is_served(host: str) -> None:
    with pytest.raises(SandboxError, match="loopback"):
        SandboxSettings(host=host)


def test_a_reserved_port_is_nobody_elses_whether_it_is_used_or_not() -> None:
    # So many that the kernel, which gives out 28,000, would have met one by chance.
    reserved = [reserve_port("127.0.0.1") for _ in range(200)]
    numbers = {port.number for port in reserved}
    for _ in range(2):
        with socket.create_server(("127.0.0.1", reserved[0].number)) as server:
            socket.create_connection(server.getsockname()).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", reserved[0].number))
    for _ in range(2000):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] not in numbers


def test_agents_that_start_side_by_side_find_the_tokens_file(sandbox: Sandbox) -> None:
    with sqlite3.connect(sandbox.files.tokens) as tokens:
        assert tokens.execute("SELECT count(*) FROM token_storage").fetchone()
    assert stat.S_IMODE(sandbox.files.tokens.stat().st_mode) == 0o600


@pytest.mark.chaos
def test_a_killed_broker_comes_back_with_what_was_in_its_queues(
    sandbox: Sandbox, rest: Callable[[], Rest]
) -> None:
    one, endpoint_id = rest(), str(uuid.uuid4())
    one.register(endpoint_id)
    function = one.function()
    assert one.submit(endpoint_id, function).status_code == 200
    before = sandbox.pids["broker"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: sandbox.pids["broker"] != before)
    assert one.submit(endpoint_id, function, count=2).status_code == 200
    registered = one.register(endpoint_id)["command_queue_info"]
    queue = registered["queue"].replace("commands", "tasks")
    (user_endpoint,) = [
        user["id"] for user in sandbox.state()["user_endpoints"] if user["endpoint_id"] == endpoint_id
    ]
    with pika.BlockingConnection(pika.URLParameters(registered["connection_url"])) as connection:
        channel = connection.channel()
        queue = queue.replace(endpoint_id, user_endpoint)
        taken = [channel.basic_get(queue, auto_ack=True)[2] for _ in range(4)]
    assert [body is not None for body in taken] == [True, True, True, False]


def test_every_port_is_on_loopback(sandbox: Sandbox) -> None:
    family = [psutil.Process(sandbox.description.pid)]
    family += family[0].children(recursive=True)
    listening = set()
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # the broker starts programs that end at once
            listening |= {
                (connection.laddr.ip, connection.laddr.port)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::1"}
    assert set(sandbox.description.amqp_ports.values()) <= {port for _, port in listening}


def test_secrets_are_in_private_files_and_in_no_command_line(sandbox: Sandbox) -> None:
    root = sandbox.files.root
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert stat.S_IMODE(sandbox.files.description.stat().st_mode) == 0o600
    secrets = (
        sandbox.credentials.client_secret,
        sandbox.description.admin_token,
        sandbox.description.login_key,
    )
    for pid in sandbox.pids.values():
        words = " ".join(psutil.Process(pid).cmdline())
        assert not any(secret in words for secret in secrets)
    log = sandbox.files.log.read_text()
    assert not any(secret in log for secret in secrets)


def test_a_directory_is_used_once_and_strangers_files_are_left_alone(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with pytest.raises(SandboxError, match="runs already"):
        Sandbox.start(sandbox.files.root)
    assert Sandbox.attach(sandbox.files.root) is not None
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(SandboxError, match="not a sandbox's"):
        Sandbox.start(tmp_path)


def test_the_environment_reaches_the_service_and_spares_other_loopback_servers(sandbox: Sandbox) -> None:
    outer = {"NO_PROXY": "localhost, example.org", "http_proxy": "http://proxy.example.org:3128"}
    environment = environment_for(sandbox.description, sandbox.files, outer)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "example.org,127.0.0.1"
    assert environment["HTTP_PROXY"] == environment["http_proxy"] == sandbox.description.proxy
    assert environment["GLOBUS_COMPUTE_USER_DIR"].startswith(str(sandbox.files.root))
