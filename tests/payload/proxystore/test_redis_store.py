"""Payloads in a real Redis server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appfl_gc.config.connectors import RedisArguments
from appfl_gc.payload.grants import granted
from appfl_gc.payload.proxystore.granted import from_grant
from appfl_gc.payload.proxystore.making import make_store
from appfl_gc.payload.proxystore.redis_parts import RedisParts
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.payload.receive import bytes_of
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.errors import TransferError, UsageError
from appfl_gc.protocol.reference import Ref
from appfl_gc.sandbox.children import reserve_port
from tests.payload.proxystore.samples import Progress, Sample, fetched
from tests.redis_server import RedisServer, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
SAMPLE = Sample.of(10_000_001)
ONCE = Patience(tries=1)
SOON = Patience(tries=50, first=0.02, longest=0.2)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer.start(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    """One that nobody stops, empty."""
    with shared.client() as client:
        client.flushall()
    return shared


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One of this test's, with the settings that it asks for."""
    server = RedisServer.start(tmp_path / "redis", **getattr(request, "param", {}))
    yield server
    server.kill()


def store_at(
    server: RedisServer, patience: Patience = ONCE, stop: threading.Event | None = None
) -> ProxyStoreStore:
    return make_store("RedisConnector", server.configs, stop or threading.Event(), patience=patience)


def test_round_trip_between_server_and_site(server: RedisServer) -> None:
    store = store_at(server)
    sent = Progress()
    ref = store.put(SAMPLE, sent)
    assert ref == Ref("proxystore", ref.locator, SAMPLE.size, SAMPLE.checksum, SAMPLE.codec)
    assert sent.last == SAMPLE.size
    assert server.keys() == {f"{ref.locator}-{number}" for number in range(3)}

    grant = json.loads(json.dumps(store.grant([ref], SAMPLE.size)))
    site = from_grant(grant)
    assert fetched(site, Ref.from_json(ref.to_json())) == SAMPLE.data
    reply = site.put(SAMPLE)
    assert granted(grant, reply) and not granted(grant, ref)
    assert fetched(store, reply) == SAMPLE.data
    store.evict(reply)
    store.evict(ref)
    store.evict(ref)
    assert server.keys() == set()


def test_proxystore_s_own_connector_reads_what_we_put_and_we_read_what_it_put(server: RedisServer) -> None:
    from proxystore.connectors.redis import RedisConnector, RedisKey

    store = store_at(server)
    ref = store.put(Sample(b"0123456789"))
    with RedisConnector("127.0.0.1", server.port) as connector:
        assert connector.get(RedisKey(f"{ref.locator}-0")) == b"0123456789"
        connector.set(RedisKey(f"{ref.locator}-0"), b"abcdefghij")
    assert fetched(store, ref) == b"abcdefghij"


def test_closing_and_evicting_leave_what_is_not_ours(server: RedisServer) -> None:
    with server.client() as client:
        client.set("somebody's", b"x")
    store = make_store("RedisConnector", {**server.configs, "clear": True}, threading.Event())
    ref = store.put(SAMPLE)
    store.evict(ref)
    for locator in (
        "somebody's",
        "somebody's-0",
        ref.locator + "/..",
        ref.locator + "@somewhere",
        ref.locator.upper(),
    ):
        with pytest.raises(TransferError, match="never gave"):
            store.evict(replace(ref, locator=locator))
        with pytest.raises(TransferError, match="never gave"):
            fetched(store, replace(ref, locator=locator))
    store.close()
    store.close()
    assert server.keys() == {"somebody's"}


def test_a_site_cannot_put_more_than_was_granted_nor_grant(server: RedisServer) -> None:
    site = from_grant(store_at(server).grant([], SAMPLE.size - 1))
    with pytest.raises(TransferError, match="10,000,001 bytes where 10,000,000 were agreed"):
        site.put(SAMPLE)
    with pytest.raises(TransferError, match="grants nothing"):
        site.grant([], 1)
    assert server.keys() == set()


def test_a_withdrawn_grant_leaves_nothing_also_when_only_its_public_part_is_known(
    server: RedisServer,
) -> None:
    store = store_at(server)
    grant = store.grant([], SAMPLE.size)
    other = from_grant(store.grant([], SAMPLE.size)).put(SAMPLE)
    from_grant(grant).put(SAMPLE)
    store.withdraw({"scheme": "proxystore", "locator": grant["locator"]})
    assert server.keys() == {f"{other.locator}-{number}" for number in range(3)}
    store.withdraw(grant)
    with pytest.raises(TransferError, match="never gave"):
        store.withdraw({"scheme": "proxystore", "locator": "*"})


def test_other_sizes_than_announced_are_refused(server: RedisServer) -> None:
    store = store_at(server)
    ref = store.put(SAMPLE)
    for size in (SAMPLE.size - 1, SAMPLE.size + 1, 1):
        with pytest.raises(TransferError, match="bytes where"):
            fetched(store, replace(ref, size=size))


def test_a_much_larger_object_takes_no_memory(server: RedisServer) -> None:
    """Its size is asked for first."""
    store = store_at(server)
    ref = store.put(Sample(b"0123456789"))
    with server.client() as client:
        client.setrange(f"{ref.locator}-0", 300_000_000, b"x")
        client.config_resetstat()
        with pytest.raises(TransferError, match="bytes where"):
            fetched(store, ref)
        assert client.info("stats")["total_net_output_bytes"] < 1_000_000
        client.flushall()


def test_what_nobody_removes_goes_by_itself_after_eight_days(server: RedisServer) -> None:
    store = store_at(server)
    grant = store.grant([store.put(SAMPLE)], SAMPLE.size)
    store.withdraw(grant)
    from_grant(grant).put(SAMPLE)
    with server.client() as client:
        days = [client.ttl(key) / (24 * 3600) for key in server.keys()]  # noqa: SIM118
    assert len(days) == 6
    assert all(7.9 < left <= 8 for left in days)


def test_a_part_that_is_gone_is_named(server: RedisServer) -> None:
    store = store_at(server)
    ref = store.put(SAMPLE)
    with server.client() as client:
        client.delete(f"{ref.locator}-1")
    with pytest.raises(TransferError, match=f"does not hold the object {ref.locator}-1") as caught:
        fetched(store, ref)
    assert "noeviction" in caught.value.hint


def test_check_puts_gets_and_evicts(server: RedisServer) -> None:
    store_at(server).check()
    assert server.keys() == set()


def test_a_full_server_ends_in_one_clear_error_and_room_in_success(own: RedisServer) -> None:
    with own.client() as client:
        client.set("somebody's", "x")
        client.config_set("maxmemory", "1mb")
        with pytest.raises(TransferError, match=r"at its memory limit.*tried 3 times") as caught:
            store_at(own, Patience(tries=3, first=0.01)).put(SAMPLE)
        assert "maxmemory" in caught.value.hint
        assert own.keys() == {"somebody's"}

        outcome: list[Ref] = []
        store = store_at(own, SOON)
        client.config_resetstat()
        uploading = threading.Thread(target=lambda: outcome.append(store.put(SAMPLE)))
        uploading.start()
        deadline = time.monotonic() + 20
        while client.info("errorstats").get("errorstat_OOM", {}).get("count", 0) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.config_set("maxmemory", "0")
        uploading.join(20)
    assert fetched(store, outcome[0]) == SAMPLE.data


@pytest.mark.parametrize("own", [{"proto_max_bulk_len": "1mb"}], indirect=True)
def test_a_limit_below_a_part_is_one_clear_error(own: RedisServer) -> None:
    with pytest.raises(TransferError) as caught:
        store_at(own).put(SAMPLE)
    assert "proto-max-bulk-len" in caught.value.hint
    assert own.keys() == set()


@pytest.mark.parametrize("own", [{"requirepass": "right-password"}], indirect=True)
def test_passwords_come_from_netrc_and_are_never_shown(
    own: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    netrc = tmp_path / ".netrc"

    def write(password: str, host: str = "127.0.0.1", mode: int = 0o600) -> None:
        netrc.write_text(f"machine {host} login default password {password}\n")
        netrc.chmod(mode)

    def put() -> None:
        store_at(own).put(SAMPLE)

    with pytest.raises(TransferError, match="wants a password") as caught:
        put()
    assert "chmod 600" in caught.value.hint
    write("right-password", host="elsewhere.example")
    with pytest.raises(TransferError, match="wants a password"):
        put()
    write("wrong-password")
    with pytest.raises(TransferError, match="refuses the one") as caught:
        put()
    assert "wrong-password" not in str(caught.value)
    write("right-password", mode=0o644)
    with pytest.raises(UsageError, match="open to others") as refused:
        put()
    assert "right-password" not in str(refused.value)
    netrc.write_text("machine 127.0.0.1 right-password\n")
    netrc.chmod(0o600)
    with pytest.raises(UsageError, match="is broken near line") as refused:
        put()
    assert "right-password" not in str(refused.value)
    write("right-password")
    put()
    store = store_at(own)
    assert "right-password" not in repr(store) + json.dumps(store.grant([], 1))


def test_tls_with_a_certificate_that_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = self_signed(tmp_path)
    tls = {
        "tls_cert_file": certificate,
        "tls_key_file": key,
        "tls_ca_cert_file": certificate,
        "tls_auth_clients": "no",
    }
    reserved = reserve_port("127.0.0.1")
    port = reserved.number
    server = RedisServer.start(tmp_path / "redis", tls_port=str(port), **tls)
    store = make_store(
        "RedisConnector",
        {"hostname": "127.0.0.1", "port": port, "tls": True},
        threading.Event(),
        patience=ONCE,
    )
    try:
        with pytest.raises(TransferError, match=r"can't be reached.*certificate verify failed"):
            store.put(SAMPLE)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        assert fetched(store, store.put(SAMPLE)) == SAMPLE.data
        assert len(server.keys()) == 3
    finally:
        server.kill()


def self_signed(directory: Path) -> tuple[str, str]:
    """Files of a certificate for 127.0.0.1 and of its key."""
    certificate, key = str(directory / "certificate.pem"), str(directory / "key.pem")
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
    ]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(["openssl", *words, *names], check=True, capture_output=True)
    return certificate, key


def test_a_server_that_is_down_is_one_clear_error(own: RedisServer) -> None:
    store = store_at(own)
    ref = store.put(SAMPLE)
    own.kill()
    with pytest.raises(TransferError, match=f"127.0.0.1:{own.port} can't be reached"):
        fetched(store, ref)
    with pytest.raises(TransferError, match="can't be reached"):
        store.put(SAMPLE)
    with pytest.raises(TransferError, match="can't be reached"):
        store.check()


def test_a_server_that_comes_back_is_used_again(own: RedisServer) -> None:
    store = store_at(own, SOON)
    store.put(SAMPLE)
    own.kill()
    outcome: list[Ref] = []
    uploading = threading.Thread(target=lambda: outcome.append(store.put(SAMPLE)))
    uploading.start()
    own.resume()
    uploading.join(20)
    assert fetched(store, outcome[0]) == SAMPLE.data


def test_connections_that_break_in_the_middle_are_made_again_where_they_broke(server: RedisServer) -> None:
    store = store_at(server, SOON)
    with server.client() as client:

        def break_all(count: int, at: set[int]) -> None:
            if at and count > min(at):
                at.remove(min(at))
                assert client.client_kill_filter(_type="normal", skipme=True) >= 1

        breaks = {1_000_000, 5_000_000, 8_000_000}
        ref = store.put(SAMPLE, lambda count: break_all(count, breaks))
        assert not breaks
        assert ref.checksum == SAMPLE.checksum

        breaks = {1_000_000, 1_700_000, 5_000_000}
        seen = [0]

        def arrived(count: int) -> None:
            assert count > seen[-1]  # nothing comes twice
            seen.append(count)
            break_all(count, breaks)

        with tempfile.TemporaryFile() as file:
            store.fetch(ref, file.fileno(), arrived)
            assert os.pread(file.fileno(), SAMPLE.size, 0) == SAMPLE.data
        assert not breaks


def test_an_altered_object_is_noticed(server: RedisServer) -> None:
    store = store_at(server)
    ref = store.put(SAMPLE)
    assert bytes_of(store, ref) == SAMPLE.data
    with server.client() as client:
        client.setrange(f"{ref.locator}-1", 1_000_000, b"altered")
    with pytest.raises(TransferError, match="checksum differs"):
        bytes_of(store, ref)


def test_a_frozen_server_ends_in_an_error_not_in_a_hang(own: RedisServer) -> None:
    parts = RedisParts(RedisArguments.model_validate(own.configs), threading.Event(), seconds=1.0)
    store = ProxyStoreStore(parts, 1 << 20, threading.Event(), patience=Patience(tries=2, first=0.01))
    own.signal(signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(TransferError, match="did not answer in time"):
        store.put(SAMPLE)
    assert time.monotonic() - begin < 20
    own.signal(signal.SIGCONT)
    assert fetched(store, store.put(SAMPLE)) == SAMPLE.data


def test_stopping_ends_a_transfer_that_hangs_within_a_second_and_evicting_still_works(
    own: RedisServer,
) -> None:
    stop = threading.Event()
    store = store_at(own, stop=stop)
    ref = store.put(SAMPLE)
    own.signal(signal.SIGSTOP)
    threading.Timer(0.3, stop.set).start()
    begin = time.monotonic()
    with pytest.raises(TransferError, match="interrupted"):
        fetched(store, ref)
    assert time.monotonic() - begin < 5  # a second, and a loaded machine
    own.signal(signal.SIGCONT)
    store.evict(ref)
    assert own.keys() == set()


def test_many_threads_use_one_store(server: RedisServer) -> None:
    store = store_at(server)
    samples = [Sample.of(5_000_000, seed) for seed in range(6)]
    wrong: list[int] = []

    def go(number: int) -> None:
        if fetched(store, store.put(samples[number])) != samples[number].data:
            wrong.append(number)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(samples))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_interrupted_put_leaves_nothing(server: RedisServer) -> None:
    stop = threading.Event()
    store = store_at(server, stop=stop)
    with pytest.raises(TransferError, match="interrupted"):
        store.put(SAMPLE, lambda count: stop.set() if count > SAMPLE.size // 2 else None)
    assert server.keys() == set()
