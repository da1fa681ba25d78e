"""An S3 server for the tests of this folder, and what they put into it."""

import secrets
import threading

import pytest

from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.s3.settings import S3Settings
from tests.fault_proxy import fault_proxy
from tests.s3_server import S3Server

QUICK = Patience(tries=4, first=0.02, longest=0.1)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    server = S3Server.start(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def bucket(s3_server):
    return s3_server.bucket("models")


@pytest.fixture(scope="module")
def proxy_of_module(s3_server):
    with fault_proxy(s3_server.url) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_of_module):
    """A proxy without faults."""
    proxy_of_module.faults.clear()
    proxy_of_module.requests.clear()
    yield proxy_of_module
    proxy_of_module.faults.clear()


@pytest.fixture(scope="module")
def make_store(s3_server, bucket):
    """A store of a run of its own."""
    made = []

    def make(url=None, run=None, stop=None, silence=20.0, patience=QUICK, **settings):
        values = {
            "bucket": bucket,
            "endpoint_url": url or s3_server.url,
            "credentials_file": s3_server.credentials,
            **settings,
        }
        store = S3Store(
            S3Settings(**values),
            run or f"run-{secrets.token_hex(3)}",
            stop or threading.Event(),
            patience=patience,
            deadlines=Deadlines(connect=5, silence=silence),
        )
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture(scope="module")
def store(make_store):
    return make_store()
