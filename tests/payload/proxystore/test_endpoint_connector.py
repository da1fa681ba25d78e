"""Payloads through two real endpoints that are peers by a real relay."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from appfl_gc.config.schema.comm_configs import ProxystoreConfigs
from appfl_gc.payload.proxystore.granted import from_grant
from appfl_gc.payload.proxystore.making import make_store
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.protocol.errors import TransferError, UsageError
from appfl_gc.runner.doctor import store_peers
from appfl_gc.runner.doctor.row import State, Subject
from appfl_gc.runner.doctor.stores import store_rows
from appfl_gc.runner.store_setup import ConnectorChoice
from tests.payload.proxystore.samples import Progress, Sample, fetched
from tests.proxystore_bed import Bed, why_not

SAMPLE = Sample.of(5_000_001)
PART = 1 << 21


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if reason := why_not():
        pytest.skip(reason)
    bed = Bed(tmp_path_factory.mktemp("bed"), largest=3_000_000)
    try:
        yield bed.start()
    finally:
        bed.close()


@pytest.fixture
def bed(started: Bed) -> Iterator[Bed]:
    with started.inside():
        yield started


@pytest.fixture
def store(bed: Bed) -> ProxyStoreStore:
    """The server's, at endpoint a; its site is at b."""
    return make_store(
        "EndpointConnector",
        {"endpoints": [bed.a.uuid], "proxystore_dir": str(bed.a.home)},
        threading.Event(),
        PART,
        site_configs={"endpoints": [bed.b.uuid], "proxystore_dir": str(bed.b.home)},
    )


def test_each_side_puts_at_its_own_endpoint_and_fetches_from_the_other_s(
    store: ProxyStoreStore, bed: Bed
) -> None:
    sent = Progress()
    ref = store.put(SAMPLE, sent)
    assert ref.locator.partition("@")[2] == bed.a.uuid
    assert (ref.checksum, sent.last) == (SAMPLE.checksum, SAMPLE.size)
    grant = json.loads(json.dumps(store.grant([ref], SAMPLE.size)))
    site = from_grant(grant)
    assert fetched(site, ref) == SAMPLE.data
    reply = site.put(SAMPLE)
    assert reply.locator == f"{grant['locator']}@{bed.b.uuid}"
    assert fetched(store, reply) == SAMPLE.data
    for one in (reply, ref, reply):
        store.evict(one)
        with pytest.raises(TransferError, match="does not hold the object"):
            fetched(store, one)
    store.check()


def test_parts_fit_the_endpoint_s_limit(bed: Bed) -> None:
    """Which is below the usual size of parts here."""
    configs = {"endpoints": [bed.a.uuid], "proxystore_dir": str(bed.a.home)}
    store = make_store("EndpointConnector", configs, threading.Event())
    assert store.part_bytes == 3_000_000
    ref = store.put(SAMPLE)
    assert fetched(store, ref) == SAMPLE.data
    store.evict(ref)


def test_a_withdrawn_grant_leaves_nothing_at_either_endpoint(store: ProxyStoreStore, bed: Bed) -> None:
    grant = store.grant([], SAMPLE.size)
    reply = from_grant(grant).put(SAMPLE)
    store.withdraw({"scheme": "proxystore", "locator": grant["locator"]})
    with pytest.raises(TransferError, match="does not hold the object"):
        fetched(store, reply)


@pytest.mark.parametrize("place", ["", "11111111-1111-4111-8111-111111111111", "nonsense"])
def test_a_reference_to_another_endpoint_is_refused(store: ProxyStoreStore, place: str) -> None:
    ref = store.put(SAMPLE)
    base = ref.locator.partition("@")[0]
    for work in (store.evict, lambda ref: fetched(store, ref)):
        with pytest.raises(TransferError, match="never gave"):
            work(replace(ref, locator=f"{base}@{place}"))
    store.evict(ref)


def test_a_machine_without_its_endpoint_says_so(bed: Bed, store: ProxyStoreStore) -> None:
    grant = store.grant([], 1)
    grant["configs"] = {"endpoints": [bed.b.uuid], "proxystore_dir": str(bed.a.home / "nothing")}
    with pytest.raises(UsageError, match="configured on this machine"):
        from_grant(grant)


def test_stopping_ends_a_fetch_from_a_frozen_peer(bed: Bed) -> None:
    stop = threading.Event()
    store = make_store(
        "EndpointConnector",
        {"endpoints": [bed.a.uuid], "proxystore_dir": str(bed.a.home)},
        stop,
        PART,
        site_configs={"endpoints": [bed.b.uuid], "proxystore_dir": str(bed.b.home)},
    )
    reply = from_grant(store.grant([], SAMPLE.size)).put(SAMPLE)
    bed.b.signal(signal.SIGSTOP)
    try:
        threading.Timer(0.5, stop.set).start()
        with pytest.raises(TransferError, match="interrupted"):
            fetched(store, reply)
    finally:
        bed.b.signal(signal.SIGCONT)


def test_a_sweep_removes_what_it_reaches_and_does_not_wait_for_a_frozen_peer(
    store: ProxyStoreStore, bed: Bed
) -> None:
    ref = store.put(SAMPLE)
    from_grant(store.grant([], SAMPLE.size)).put(SAMPLE)
    bed.b.signal(signal.SIGSTOP)
    try:
        begin = time.monotonic()
        with pytest.raises(TransferError, match=r"could be removed within 3 s"):
            store.sweep(3.0)
        store.close()
        assert time.monotonic() - begin < 20
    finally:
        bed.b.signal(signal.SIGCONT)
    # The server's endpoint lives on, and has nothing of the run.
    configs = {"endpoints": [bed.a.uuid], "proxystore_dir": str(bed.a.home)}
    again = make_store("EndpointConnector", configs, threading.Event(), PART)
    with pytest.raises(TransferError, match="does not hold the object"):
        fetched(again, ref)
    again.check()


def test_the_doctor_asks_every_endpoint(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_peers, "SECONDS", 3.0)
    absent = "22222222-2222-4222-8222-222222222221"

    def configs(home: str, *endpoints: str) -> ProxystoreConfigs:
        return ProxystoreConfigs(
            enable_proxystore=True,
            connector_type="EndpointConnector",
            connector_configs={"endpoints": [*endpoints], "proxystore_dir": home},
        )

    near = configs(str(bed.a.home), bed.a.uuid)
    choices = {
        "Client1": ConnectorChoice(near, configs(str(bed.b.home), bed.b.uuid)),
        "Client2": ConnectorChoice(near, configs(str(bed.b.home), absent)),
    }
    rows = [row for row in store_rows(Subject("Payloads"), choices) if "small payload" not in row.finding]
    assert [row.state for row in rows] == [State.FAIL, State.OK]
    assert f"{absent} does not run" in rows[0].finding and "Client2" in rows[0].finding and rows[0].fix
    assert bed.b.uuid in rows[1].finding
    bed.b.signal(signal.SIGSTOP)
    try:
        (row,) = store_peers.peer_rows(Subject("Payloads"), {"Client1": choices["Client1"]})
        assert row.state is State.FAIL and bed.b.uuid in row.finding
    finally:
        bed.b.signal(signal.SIGCONT)
