"""Which endpoint is ours, and why it does not answer; by the real program, without a relay."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appfl_gc.payload.proxystore.endpoint.client import EndpointClient
from appfl_gc.payload.proxystore.endpoint.own import configured, home
from appfl_gc.protocol.errors import TransferError
from tests.payload.proxystore.endpoint.conftest import HASTY

UUID = "8ad8a5b4-2c0b-4b0c-9f35-d3c4b1a7a001"
PROGRAM = Path(sys.executable).absolute().parent / "proxystore-endpoint"


def write(directory: Path, name: str, port: int, *, host: str = "127.0.0.1", relay: str = "") -> None:
    """The configuration of an endpoint as `proxystore-endpoint configure` and `start` leave it."""
    folder = directory / name
    folder.mkdir(parents=True)
    lines = [f'name = "{name}"', f'uuid = "{UUID}"', f"port = {port}", 'host_type = "static"']
    lines += [f'host = "{host}"'] if host else []
    (folder / "config.toml").write_text("\n".join([*lines, relay]) + "\n")


def started(directory: Path, name: str) -> None:
    """Start the real endpoint, which is to fail, and wait until it has."""
    if not PROGRAM.exists():
        pytest.skip("needs proxystore[endpoints]")
    command = [str(PROGRAM), "start", name, "--no-detach"]
    done = subprocess.run(
        command, env={"PROXYSTORE_HOME": str(directory)}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0


@contextmanager
def answering(text: bytes) -> Iterator[int]:
    """A program that answers every request with ``text``; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(text)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def client(directory: Path) -> EndpointClient:
    return EndpointClient([UUID], str(directory), patience=HASTY)


def test_where_endpoints_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXYSTORE_HOME", str(tmp_path))
    assert home() == tmp_path and configured() == []
    write(tmp_path, "ours", 9000)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.toml").write_text("name = [")
    (one,) = configured()
    assert (one.name, one.uuid, one.host, one.port, one.largest) == (
        "ours",
        UUID,
        "127.0.0.1",
        9000,
        100_000_000,
    )


def test_one_that_was_never_started(tmp_path: Path) -> None:
    write(tmp_path, "ours", 9000, host="")
    with pytest.raises(TransferError, match="never started") as told:
        client(tmp_path)
    assert "proxystore-endpoint start ours" in told.value.hint


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "another endpoint, or another program"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + bytes(9999),
            "another endpoint, or another program",
        ),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "another endpoint, or another program"),
    ],
)
def test_another_program_has_its_port(tmp_path: Path, text: bytes, why: str) -> None:
    with answering(text) as port:
        write(tmp_path, "ours", port)
        with pytest.raises(TransferError, match=f"is not the ProxyStore endpoint ours.*{why}") as told:
            client(tmp_path)
    assert "taken its port" in told.value.hint and "config.toml" in told.value.hint


def test_it_could_not_start_since_its_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        write(tmp_path, "ours", other.getsockname()[1])
        started(tmp_path, "ours")
    with pytest.raises(TransferError, match=r"Connection refused\. Its log says: its port .* is taken"):
        client(tmp_path)


def test_it_could_not_start_without_a_login_for_its_relay(tmp_path: Path) -> None:
    relay = '[relay]\naddress = "ws://127.0.0.1:9"\n[relay.auth]\nmethod = "globus"\n'
    write(tmp_path, "ours", 9, relay=relay)
    started(tmp_path, "ours")
    with pytest.raises(TransferError, match="it found no login for its relay") as told:
        client(tmp_path)
    assert "appfl-gc login --proxystore" in told.value.hint
