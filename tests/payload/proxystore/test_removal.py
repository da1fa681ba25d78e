"""What a run has put, granted or withdrawn is gone when it has ended, and removing it never takes long."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appfl_gc.config.connectors import RedisArguments
from appfl_gc.payload.proxystore.granted import from_grant
from appfl_gc.payload.proxystore.making import make_store
from appfl_gc.payload.proxystore.redis_parts import RedisParts
from appfl_gc.payload.proxystore.removal import MOST_WITHDRAWN, REMOVAL, Removal
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.errors import TransferError
from tests.payload.proxystore.samples import Sample
from tests.redis_server import RedisServer, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())
SAMPLE = Sample.of(3_000_000)
PART = 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer.start(tmp_path / "redis")
    yield server
    server.kill()


def store_at(server: RedisServer, stop: threading.Event | None = None) -> ProxyStoreStore:
    return make_store("RedisConnector", server.configs, stop or threading.Event(), PART)


def slow_store(server: RedisServer, seconds: float) -> tuple[ProxyStoreStore, RedisParts]:
    """One whose connector waits no longer than ``seconds`` for an answer."""
    parts = RedisParts(RedisArguments.model_validate(server.configs), threading.Event(), seconds=seconds)
    return ProxyStoreStore(parts, PART, threading.Event(), terms={}), parts


def pending(store: ProxyStoreStore) -> frozenset[str]:
    return store._removal.pending


def test_what_was_evicted_is_waited_for_no_more(server: RedisServer) -> None:
    """A run of many rounds keeps no name of each update."""
    store = store_at(server)
    model = store.put(SAMPLE)
    grant = store.grant([model], SAMPLE.size)
    ref = from_grant(grant).put(SAMPLE)
    assert pending(store) == {model.locator, ref.locator}
    store.evict(ref)
    assert pending(store) == {model.locator}
    store.evict(model)
    assert pending(store) == set()
    store.withdraw(store.grant([], 1))
    assert len(pending(store)) == 1
    store.sweep()
    assert pending(store) == set()


def test_an_eviction_that_failed_is_made_up_for_by_the_sweep(server: RedisServer) -> None:
    store, _ = slow_store(server, 1.0)
    ref = store.put(SAMPLE)
    server.signal(signal.SIGSTOP)
    with pytest.raises(TransferError, match="did not answer in time"):
        store.evict(ref)
    server.signal(signal.SIGCONT)
    store.sweep()
    assert server.keys() == set()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_sweep_removes_the_servers_puts_and_what_came_after_a_withdrawal(
    server: RedisServer, stopped: bool
) -> None:
    stop = threading.Event()
    store = store_at(server, stop)
    store.put(SAMPLE)
    granted, late, slow = (store.grant([], SAMPLE.size) for _ in range(3))
    from_grant(granted).put(SAMPLE)
    store.withdraw(late)
    from_grant(late).put(SAMPLE)

    # Withdrawn in the middle of a put, which goes on.
    def withdraw(count: int) -> None:
        if count == PART:
            store.withdraw(slow)

    from_grant(slow).put(SAMPLE, withdraw)
    left = {key for key in server.keys() if key.startswith(str(slow["locator"]))}  # noqa: SIM118
    assert left == {f"{slow['locator']}-1", f"{slow['locator']}-2"}
    if stopped:
        stop.set()
    store.sweep()
    assert server.keys() == set()


def test_withdrawals_that_are_looked_for_again_are_bounded(server: RedisServer) -> None:
    _, parts = slow_store(server, 5)
    removal = Removal(parts)
    for number in range(MOST_WITHDRAWN + 10):
        removal.withdraw(f"{number:032x}")
    assert len(removal.pending) == MOST_WITHDRAWN
    assert f"{MOST_WITHDRAWN + 9:032x}" in removal.pending


def test_a_sweep_asks_a_place_that_does_not_answer_once(server: RedisServer) -> None:
    store, _ = slow_store(server, 0.3)
    for _ in range(20):
        store.grant([], 1)
    server.signal(signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(TransferError, match="did not answer in time"):
        store.sweep()
    assert time.monotonic() - begin < 5
    server.kill()
    begin = time.monotonic()
    with pytest.raises(TransferError, match="can't be reached"):
        store.sweep()
    assert time.monotonic() - begin < 5


def test_a_sweep_ends_in_time_whatever_the_connector_does(server: RedisServer) -> None:
    store, _ = slow_store(server, 60)
    store.grant([], 1)
    server.signal(signal.SIGSTOP)
    begin = time.monotonic()
    with pytest.raises(TransferError, match=r"could be removed within 0.3 s"):
        store.sweep(0.3)
    assert time.monotonic() - begin < 5
    store.close()
    assert time.monotonic() - begin < 7


@pytest.mark.parametrize("stopped", [False, True])
def test_evicting_from_a_server_that_is_gone_ends_soon_whatever_the_patience_of_transfers(
    server: RedisServer, stopped: bool
) -> None:
    stop = threading.Event()
    parts = RedisParts(RedisArguments.model_validate(server.configs), stop, seconds=5)
    store = ProxyStoreStore(parts, PART, stop, terms={}, patience=Patience(tries=50))
    ref = store.put(SAMPLE)
    grant = store.grant([], 1)
    server.kill()
    if stopped:
        stop.set()
    begin = time.monotonic()
    for work in (lambda: store.evict(ref), lambda: store.withdraw(grant)):
        with pytest.raises(TransferError, match=f"tried {REMOVAL.tries} times"):
            work()
    assert time.monotonic() - begin < 20
