"""Removing what a run has in a bucket: also while the run stops, and soon, whatever the store does."""

import threading
import time
from contextlib import contextmanager

import pytest

from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3 import client
from appfl_gc.protocol.errors import TransferError

from .payloads import MB, Payload, fetched, site


def left(store, s3_server, bucket):
    everything = s3_server.keys(bucket) + s3_server.uploads(bucket)
    return [key for key in everything if key.startswith(store.where["prefix"])]


def test_removing_does_not_heed_the_event_that_ends_transfers(make_store, s3_server, bucket):
    stop = threading.Event()
    store = make_store(stop=stop)
    own, grants = [store.put(Payload(10)) for _ in range(12)], [store.grant([], MB) for _ in range(3)]
    stop.set()
    with pytest.raises(TransferError, match="interrupted"):
        store.grant([], MB)
    store.evict(own[0])
    store.withdraw(grants[0])
    assert len(left(store, s3_server, bucket)) == 13
    swept = store.sweep()
    assert (swept.objects, swept.bytes, swept.uploads) == (11, 110, 2)
    assert left(store, s3_server, bucket) == []


def test_a_withdrawn_payload_that_was_completed_goes_too(make_store, s3_server, bucket):
    """Its landing failed after that, so that nobody evicts it."""
    store = make_store()
    grant = store.grant([], MB)
    ref = site(grant).put(Payload(MB))
    fetched(store, ref)
    assert left(store, s3_server, bucket)
    store.withdraw(grant)
    assert left(store, s3_server, bucket) == []


@contextmanager
def frozen(server):
    server.pause()
    try:
        yield
    finally:
        server.go_on()


def test_removing_from_a_store_that_does_not_answer_ends_soon(make_store, s3_server, monkeypatch):
    monkeypatch.setattr(client.Client.brief, "__defaults__", (0.2,))
    store = make_store(patience=Patience(tries=50))
    ref, grant = store.put(Payload(10)), store.grant([], MB)
    for deed in (lambda: store.evict(ref), lambda: store.withdraw(grant), lambda: store.sweep(seconds=10)):
        begin = time.monotonic()
        with (
            frozen(s3_server),
            pytest.raises(TransferError, match=r"no answer within 0.2 s. It was tried 2 times"),
        ):
            deed()
        assert time.monotonic() - begin < 10
    monkeypatch.undo()
    store.sweep()


def test_a_sweep_ends_in_time(make_store, s3_server, bucket):
    store = make_store()
    store.put(Payload(10))
    begin = time.monotonic()
    with frozen(s3_server), pytest.raises(TransferError, match=r"seen to within 0.5 s") as caught:
        store.sweep(seconds=0.5)
    assert time.monotonic() - begin < 10
    assert "runs clean" in caught.value.hint
    store.sweep()
    assert left(store, s3_server, bucket) == []


def test_a_sweep_of_a_store_that_is_gone_ends_soon(make_store):
    store = make_store(url="http://127.0.0.1:9", patience=Patience(tries=50))
    begin = time.monotonic()
    with pytest.raises(TransferError, match=r"can't be reached.*tried 2 times"):
        store.sweep()
    assert time.monotonic() - begin < 10
