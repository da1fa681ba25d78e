"""What networks and stores do to transfers: each ends in a retry that succeeds, or in one clear error."""

import logging
import resource
import socket
import tempfile
import threading
import time
from contextlib import contextmanager

import pytest

from appfl_gc.payload import receive
from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.download import RANGE
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.payload.s3.upload import upload
from appfl_gc.protocol.errors import StorageError, TransferError
from tests.fault_proxy import Fault

from .conftest import QUICK
from .payloads import MB, Payload, Progress, fetched, site, temporary_file

SIZE = 9 * MB
LARGE = 17 * MB
SHORT = Deadlines(connect=2, silence=1)


@pytest.fixture(scope="module")
def through(make_store, proxy_of_module):
    """A store behind the proxy."""
    return make_store(url=proxy_of_module.url)


@pytest.fixture(scope="module")
def stored(through):
    """A payload of two ranges, and where it is."""
    payload = Payload(LARGE)
    return payload, through.put(payload)


def put(method="PUT"):
    return {"method": method, "matches": lambda path: "partNumber=1" in path}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, code="SlowDown", times=2, **put()),
        Fault("status", status=500, code="InternalError", times=2, **put()),
        Fault("status", status=400, code="RequestTimeout", **put()),
        Fault("cut", after=4 * MB, times=2, **put()),
        Fault("stall", after=4 * MB, **put()),
        Fault("stall", where="down", after=-1, **put()),
        Fault("slow", rate=2e7, **put()),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.code}-{fault.where}",
)
def test_an_upload_is_mended(through, proxy, fault):
    payload, sent = Payload(SIZE), Progress()
    grant = through.grant([], SIZE)
    proxy.faults.append(fault)
    ref = site(grant, deadlines=SHORT).put(payload, sent)
    assert fault.happened == fault.times
    sent.check(SIZE)
    assert fetched(through, ref) == payload.content


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, code="SlowDown", method="GET", times=2),
        Fault("status", status=502, code="BadGateway", method="GET"),
        Fault("cut", where="down", after=3 * MB, method="GET", times=3),
        Fault("stall", where="down", after=3 * MB, method="GET"),
        Fault("slow", where="down", rate=2e7, method="GET"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.code}",
)
def test_a_download_is_mended(through, proxy, stored, fault):
    payload, ref = stored
    grant = through.grant([ref], SIZE)
    proxy.faults.append(fault)
    assert fetched(site(grant, deadlines=SHORT), ref) == payload.content
    assert fault.happened == fault.times


def test_a_broken_range_goes_on_where_it_broke(through, proxy, stored):
    payload, ref = stored
    grant = through.grant([ref], SIZE)
    # Twice: the other range may come first, and is too short for it. (A reset could take back what has arrived.)
    proxy.faults.append(Fault("stall", where="down", after=3 * MB, method="GET", times=2))
    assert fetched(site(grant, deadlines=SHORT), ref) == payload.content
    starts = {int(stretch[6:].partition("-")[0]) for method, _, stretch in proxy.requests if method == "GET"}
    assert any(start % RANGE >= 1 << 20 for start in starts), starts


def test_a_download_that_gets_on_is_not_given_up(through, proxy, stored):
    payload, ref = stored
    grant = through.grant([ref], SIZE)
    proxy.faults.append(Fault("stall", where="down", after=3 * MB, method="GET", times=4))
    impatient = Patience(tries=2, first=0.01)
    hasty = Deadlines(connect=2, silence=0.5)
    assert fetched(site(grant, deadlines=hasty, patience=impatient), ref) == payload.content


def test_the_store_is_asked_to_rest_as_long_as_it_says(through, proxy):
    proxy.faults.append(Fault("status", headers={"Retry-After": "1"}, method="PUT"))
    began = time.monotonic()
    patient = Patience(tries=3, first=0.01, longest=5)
    site(through.grant([], 10), patience=patient).put(Payload(10))
    assert time.monotonic() - began >= 1


def test_trouble_that_lasts_ends_in_one_error_without_urls(through, proxy, caplog):
    caplog.set_level(logging.DEBUG)
    payload = Payload(10)
    ref = through.put(payload)
    grant = through.grant([ref], 10)
    assert "urllib3.connectionpool" in {record.name for record in caplog.records}
    for url in (*grant["parts"], *grant["read"].values()):
        assert url.rpartition("=")[2] not in caplog.text, "a signature is in the log"
    caplog.clear()
    proxy.faults.append(Fault("status", times=99))
    for deed in (lambda: site(grant).put(payload), lambda: fetched(site(grant), ref)):
        with pytest.raises(TransferError, match=r"503 SlowDown.*tried 4 times") as caught:
            deed()
        text = f"{caught.value!r} {caught.value} {caught.value.report}"
        assert "X-Amz" not in text and ref.locator not in text and grant["locator"] not in text
        assert "X-Amz-Signature" not in caplog.text
        assert caught.value.__suppress_context__


def test_the_servers_own_requests_are_mended_and_explained(through, proxy):
    proxy.faults.append(Fault("status", method="POST", times=2))
    grant = through.grant([], SIZE)
    ref = site(grant).put(Payload(SIZE))
    # The answer to the completion is lost, and the second one finds nothing to complete.
    proxy.faults.append(
        Fault("cut", where="down", after=-1, method="POST", matches=lambda path: "uploadId" in path)
    )
    assert fetched(through, ref) == Payload(SIZE).content
    proxy.faults.append(Fault("status", method="POST", times=99))
    with pytest.raises(TransferError, match=r"could not make room for an upload \(SlowDown\)"):
        through.grant([], SIZE)


def test_a_failed_put_leaves_no_upload(make_store, proxy, s3_server, bucket):
    through = make_store(url=proxy.url)
    proxy.faults.append(Fault("status", times=99, **put()))
    with pytest.raises(TransferError, match="SlowDown"):
        through.put(Payload(SIZE))
    assert not [key for key in s3_server.uploads(bucket) if key.startswith(through.where["prefix"])]


@pytest.mark.parametrize("kind", ["alter", "truncate", "other"])
def test_an_altered_object_is_never_a_model(make_store, proxy, s3_server, bucket, kind):
    through, payload = make_store(url=proxy.url), Payload(SIZE)
    ref = through.put(payload)
    key = f"{through.where['prefix']}{ref.locator}"
    client = s3_server.client()
    if kind == "alter":
        proxy.faults.append(Fault("alter", where="down", after=MB, method="GET"))
    elif kind == "truncate":
        client.put_object(Bucket=bucket, Key=key, Body=payload.content[:-1])
    else:
        client.put_object(Bucket=bucket, Key=key, Body=payload.content[::-1])
    with pytest.raises(TransferError, match=r"checksum differs|8,999,999 bytes"):
        receive.bytes_of(through, ref)


def test_an_object_that_changes_in_mid_download_is_refused(through, proxy, s3_server, bucket):
    ref = through.put(Payload(LARGE))
    key = f"{through.where['prefix']}{ref.locator}"

    def change(path):
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=Payload(LARGE, seed=9).content)
        return True

    # Between the first request and the second.
    proxy.faults += [
        Fault("cut", where="down", after=3 * MB, method="GET"),
        Fault("slow", where="down", rate=1e12, method="GET", matches=change),
    ]
    with temporary_file() as file, pytest.raises(TransferError, match="changed while"):
        through.fetch(ref, file, lambda done: None)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_transfer_that_hangs_ends_within_a_second_when_it_is_to_stop(make_store, proxy, direction):
    payload, stop = Payload(SIZE), threading.Event()
    store = make_store(url=proxy.url, stop=stop)
    ref = store.put(payload)
    grant = store.grant([ref], SIZE)
    stalled = Fault("stall", where=direction, after=MB, times=99)
    proxy.faults.append(stalled)
    deed = store.put if direction == "up" else lambda payload: fetched(site(grant, stop=stop), ref)
    with stopping(stop, stalled) as stopped, pytest.raises(TransferError, match="was interrupted"):
        deed(payload)
    assert time.monotonic() - stopped[0] < 5  # a second, and a loaded machine


@contextmanager
def stopping(stop, fault):
    """Set ``stop`` a moment after ``fault`` has befallen a request; the list then holds when."""
    stopped = []

    def act():
        while not fault.happened:
            time.sleep(0.05)
        time.sleep(0.3)
        stopped.append(time.monotonic())
        stop.set()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield stopped
    thread.join(60)


def test_a_request_of_the_server_that_hangs_ends_when_it_is_to_stop(make_store, proxy):
    stop = threading.Event()
    store = make_store(url=proxy.url, stop=stop)
    stalled = Fault("stall", where="down", after=-1, method="POST", times=99)
    proxy.faults.append(stalled)
    with stopping(stop, stalled) as stopped, pytest.raises(TransferError, match="was interrupted"):
        store.grant([], SIZE)
    assert time.monotonic() - stopped[0] < 5  # as above


def test_a_connection_that_is_too_slow_is_given_up(through, proxy, stored):
    _, ref = stored
    grant = through.grant([ref], SIZE)
    proxy.faults.append(Fault("slow", where="down", rate=4e5, method="GET", times=99))
    hurried = Deadlines(connect=0.5, silence=0.5, slowest=1e9)
    with pytest.raises(TransferError, match="too slow"):
        fetched(site(grant, deadlines=hurried), ref)


def test_a_full_disk_is_this_machines_trouble_and_not_tried_again(through, proxy, stored, tmp_path):
    _, ref = stored
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MB, limits[1]))
        try:
            with pytest.raises(StorageError) as caught:
                through.fetch(ref, file.fileno(), lambda done: None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    where = f"{tmp_path} on the machine {socket.gethostname()}"
    assert f"can't be written into {where}: a limit on the size" in caught.value.message
    assert "tried" not in caught.value.message
    ranges = [stretch for method, _, stretch in proxy.requests if method == "GET" and stretch]
    assert len(ranges) == len(set(ranges))


def test_a_store_that_answers_without_ranges_is_refused(through, proxy, stored):
    _, ref = stored
    proxy.faults.append(Fault("status", status=200, method="GET", times=99))
    with pytest.raises(TransferError, match="status 200"):
        fetched(through, ref)


def test_a_site_goes_through_the_environments_proxy_unless_it_bypasses_the_host(
    store, s3_server, proxy, monkeypatch
):
    payload = Payload(100)
    grant = store.grant([], 100)
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy.url)
    ref = site(grant).put(payload)
    assert [path.startswith(s3_server.url) for _, path, _ in proxy.requests] == [True]
    proxy.requests.clear()
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    assert fetched(store, ref) == payload.content
    assert not proxy.requests


def test_a_netrc_login_is_not_sent_along(through, proxy, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    payload = Payload(100)
    grant = through.grant([], 100)
    proxy.logins.clear()
    ref = site(grant).put(payload)
    assert proxy.requests and not proxy.logins
    assert fetched(through, ref) == payload.content


def test_memory_is_bounded_by_the_parts_under_way(store):
    """A payload that is made while it is sent: never more than five parts and one in the making exist."""
    alive, most, lock = 0, 0, threading.Lock()

    class Piece(bytearray):
        def __init__(self, size):
            nonlocal alive, most
            super().__init__(size)
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    class Made:
        codec, size = "safetensors-1", 20 * MB

        def chunks(self):
            for _ in range(20):
                yield memoryview(Piece(MB))

    grant = store.grant([], 20 * MB)
    urls = grant["parts"]
    upload(Made(), MB, lambda index: urls[0], lambda done: None, threading.Event(), patience=QUICK)
    assert most <= 7
    store.withdraw(grant)
