"""Stores that are frozen, absent, or something else: said in plain words, soon, with the address."""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from appfl_gc.config.schema.comm_configs import S3Configs
from appfl_gc.payload.s3 import check as checking
from appfl_gc.payload.s3.check import check
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.protocol.errors import TransferError, UsageError
from appfl_gc.runner.store_setup import BucketChoice
from tests.fault_proxy import Fault

from .payloads import Payload, site

SHORT = Deadlines(connect=2, silence=1)


@contextmanager
def free_address():
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def other_service(status, body):
    """Another HTTP service."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_frozen_server_is_known_for_one_soon(s3_server, bucket, monkeypatch):
    assert checking.PATIENCE.tries * (checking.DEADLINES.connect + checking.DEADLINES.silence) <= 30
    monkeypatch.setattr(checking, "DEADLINES", SHORT)
    configs = S3Configs(
        enable_s3=True,
        s3_bucket=bucket,
        endpoint_url=s3_server.url,
        s3_creds_file=str(s3_server.credentials),
    )
    s3_server.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(TransferError, match=rf"{s3_server.url} did not answer in time.*2 times"):
            BucketChoice(configs).open("frozen", threading.Event())
        assert time.monotonic() - begun < 20
    finally:
        s3_server.go_on()
    # What it was asked, it answers now.
    s3_server.client().list_buckets()
    assert not [key for key in s3_server.uploads(bucket) if "frozen" in key]


def test_a_check_that_fails_midway_leaves_no_upload(make_store, proxy, s3_server, bucket, monkeypatch):
    monkeypatch.setattr(checking, "DEADLINES", SHORT)
    proxy.faults.append(Fault("stall", method="PUT", times=99))
    store = make_store(url=proxy.url, run="midway")
    with pytest.raises(TransferError, match=r"did not answer in time|broke|too slow"):
        check(store)
    assert not [key for key in (*s3_server.uploads(bucket), *s3_server.keys(bucket)) if "midway" in key]


def test_an_address_where_nothing_listens_is_named(make_store):
    with free_address() as address, pytest.raises(TransferError) as caught:
        make_store(url=f"http://{address}").grant([], 10)
    assert f"can't be reached at http://{address}: the connection was refused" in caught.value.message


def test_a_name_that_is_unknown_is_said(make_store):
    with pytest.raises(TransferError, match=r"at http://no\.such\.host\.invalid: its name can't be resolved"):
        make_store(url="http://no.such.host.invalid").grant([], 10)


def test_tls_where_none_is_spoken(make_store, s3_server):
    url = s3_server.url.replace("http:", "https:")
    with pytest.raises(UsageError, match=f"nothing speaks TLS at {url}") as caught:
        make_store(url=url).grant([], 10)
    assert "http://" in caught.value.hint
    grant = make_store().grant([], 10)
    grant["parts"] = [part.replace("http:", "https:") for part in grant["parts"]]
    with pytest.raises(TransferError, match="does not speak TLS"):
        site(grant).put(Payload(10))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"Bad Request"),
        (404, b"<html><body><p>none</body></html>"),
        (405, b"<html><body>no</body></html>"),
        (200, b"<html><body>Welcome</body></html>"),
        (302, b""),
    ],
)
def test_another_service_is_no_s3_service(make_store, status, body):
    with (
        other_service(status, body) as url,
        pytest.raises(UsageError, match=f"{url} does not answer as an S3 service") as caught,
    ):
        make_store(url=url).grant([], 10)
    assert "endpoint_url" in caught.value.hint and "<" not in caught.value.message


def test_a_site_names_itself_and_mentions_a_proxy_only_where_one_is_set(make_store, s3_server, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    grant = make_store().grant([], 10)
    with free_address() as address:
        before = s3_server.url.partition("//")[2]
        grant["parts"] = [part.replace(before, address) for part in grant["parts"]]
        with pytest.raises(TransferError) as caught:
            site(grant).put(Payload(10))
        here = f"from the machine {socket.gethostname()}"
        assert (
            f"S3 store at {address} can't be reached {here}: the connection was refused"
            in caught.value.message
        )
        assert "proxy" not in caught.value.hint and "machine itself" in caught.value.hint
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        with pytest.raises(TransferError) as caught:
            site(grant).put(Payload(10))
        assert "proxy" in caught.value.hint
