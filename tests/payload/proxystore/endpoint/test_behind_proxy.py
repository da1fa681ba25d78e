"""A worker on a compute node reaches the endpoint on its login node past the node's HTTP proxy, all else through it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from appfl_gc.hpc.endpoint.options import EndpointOptions
from appfl_gc.hpc.endpoint.worker_environment import worker_init
from appfl_gc.hpc.facility import Facility, load_facility
from tests.proxystore_bed import ADDRESS, Bed

BUCKET = "http://bucket.s3.example/model"
TUTORIAL = 'export HTTP_PROXY=""; export http_proxy="";'

WORKER = f"""
import os, sys
import requests
from appfl_gc.payload.proxystore.endpoint.client import EndpointClient
mine, other = sys.argv[1:]
client = EndpointClient([mine, other])
client.put("from-a-job", b"weights")
assert client.get("from-a-job", mine, size=7) == b"weights"
assert not client.exists("from-a-job", other)
if os.environ.get("THEIRS"):
    from proxystore.connectors.endpoint import EndpointConnector, EndpointKey
    assert EndpointConnector([mine]).exists(EndpointKey("from-a-job", mine))
try:
    print("bucket", requests.get({BUCKET!r}, timeout=5).text)
except requests.ConnectionError:
    print("bucket unreachable")
"""


@contextmanager
def compute_node_proxy() -> Iterator[tuple[str, list[str]]]:
    """The only way out of a compute node; yields its address and the addresses that were asked of it."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(200 if self.path == BUCKET else 403)
            self.end_headers()
            self.wfile.write(b"model" if self.path == BUCKET else b"not through me")

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def facility(proxy: str) -> Facility:
    """Polaris, whose compute nodes have a proxy that is set in its prelude; here at another address."""
    polaris = load_facility("polaris")
    assert "http_proxy=http://proxy" in polaris.prelude and "no_proxy=" in polaris.prelude
    lines = [line for line in polaris.prelude.splitlines() if not line.startswith("module ")]
    text = "\n".join(lines) + "\n"
    return replace(polaris, prelude=text.replace("http://proxy.alcf.anl.gov:3128", proxy))


def work(bed: Bed, script: str, **environment: str) -> str:
    """What a worker prints that is started in a shell after ``script``."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    command = f'{script}\nexec "$0" -c "$1" "$2" "$3"'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, WORKER, bed.a.uuid, bed.b.uuid],
        env={**inherited, "PROXYSTORE_HOME": str(bed.a.home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_our_client_needs_no_setting(bed: Bed) -> None:
    with compute_node_proxy() as (proxy, seen):
        said = work(bed, "", HTTP_PROXY=proxy, http_proxy=proxy, ALL_PROXY=proxy)
    assert said == "bucket model"
    assert seen == [BUCKET]


def test_the_template_spares_the_endpoint_for_other_programs_too(bed: Bed) -> None:
    with compute_node_proxy() as (proxy, seen):
        options = EndpointOptions(facility="polaris", direct_hosts=(ADDRESS,))
        script = worker_init(facility(proxy), options, None)
        assert work(bed, script, THEIRS="1") == "bucket model"
        assert seen == [BUCKET]

        plain = worker_init(facility(proxy), replace(options, direct_hosts=()), None)
        with pytest.raises(AssertionError, match="EndpointConnectorError"):
            work(bed, plain, THEIRS="1")
        assert any(ADDRESS in path for path in seen)


def test_the_blank_proxies_of_the_tutorial_work_too(bed: Bed) -> None:
    with compute_node_proxy() as (proxy, seen):
        script = worker_init(facility(proxy), EndpointOptions(facility="polaris"), None) + TUTORIAL
        assert work(bed, script, THEIRS="1") == "bucket unreachable"
    assert seen == []


def test_hosts_are_added_to_those_that_are_spared_already(tmp_path: Path) -> None:
    options = EndpointOptions(direct_hosts=("10.1.2.3",))
    script = worker_init(load_facility("local"), options, None)
    shown = 'printf "%s %s" "$no_proxy" "$NO_PROXY"'
    for given, expected in (
        ({"no_proxy": ".lab"}, ".lab,10.1.2.3,localhost,127.0.0.1"),
        ({"NO_PROXY": ".org"}, ".org,10.1.2.3,localhost,127.0.0.1"),
        ({}, "10.1.2.3,localhost,127.0.0.1"),
    ):
        done = subprocess.run(
            ["bash", "-uc", f"{script}\n{shown}"], env=given, capture_output=True, text=True, check=False
        )
        assert done.stdout == f"{expected} {expected}", done.stderr
