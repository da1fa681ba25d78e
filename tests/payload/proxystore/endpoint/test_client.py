"""Objects through real endpoints that are peers by a real relay."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from appfl_gc.payload.proxystore.endpoint.client import EndpointClient
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.errors import TransferError, UsageError
from tests.payload.proxystore.endpoint.conftest import HASTY, ClientOf
from tests.proxystore_bed import Bed, Endpoint

MB = 1_000_000


def key() -> str:
    return secrets.token_hex(16)


def test_an_object_goes_from_endpoint_to_endpoint_and_goes_away(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b)
    assert (a.own, b.own) == (bed.a.uuid, bed.b.uuid)
    name, data = key(), os.urandom(5 * MB)
    a.put(name, memoryview(data))
    assert b.get(name, a.own, size=len(data)) == data
    assert b.get(name, a.own.upper()) == data
    assert a.get(name) == data
    assert (b.exists(name, a.own), b.exists(name)) == (True, False)
    b.evict(name, a.own)
    assert not a.exists(name)
    a.evict(name)
    with pytest.raises(TransferError, match="does not hold the object"):
        b.get(name, a.own, size=1)


def test_more_or_less_than_announced_is_an_error(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b)
    name = key()
    a.put(name, b"12345")
    for size in (4, 6, 5000):
        with pytest.raises(TransferError, match="bytes where"):
            b.get(name, a.own, size=size)
    buffer = bytearray(9)
    assert b.get_into(name, a.own, memoryview(buffer), exact=False) == 5
    assert buffer == b"12345\0\0\0\0"


def test_an_object_over_the_limit_is_not_sent(bed: Bed, client_of: ClientOf) -> None:
    a = client_of(bed.a)
    sent = bed.a.log.stat().st_size
    with pytest.raises(TransferError, match=r"100,000,001 bytes is over the limit") as told:
        a.put(key(), bytes(a.largest + 1))
    assert "max_object_size" in told.value.hint and str(bed.a.home) in told.value.hint
    assert bed.a.log.stat().st_size == sent


def test_a_limit_that_the_running_endpoint_does_not_know_yet(bed: Bed, client_of: ClientOf) -> None:
    config = bed.b.home / "b" / "config.toml"
    before = config.read_text()
    config.write_text(before.replace("100000000", "110000000"))
    try:
        with pytest.raises(TransferError, match="did not take an object of 101,000,000 bytes") as told:
            client_of(bed.b).put(key(), bytes(101 * MB))
    finally:
        config.write_text(before)
    assert "restart it" in told.value.hint


def test_an_endpoint_of_nobody(bed: Bed, client_of: ClientOf, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="not one of this federation"):
        client_of(bed.a).get(key(), "11111111-1111-4111-8111-111111111111", size=1)
    with pytest.raises(UsageError, match="no UUID"):
        EndpointClient(["epA"], str(bed.a.home))
    with pytest.raises(UsageError, match="is configured on this machine") as told:
        EndpointClient(bed.endpoints, str(tmp_path))
    assert "PROXYSTORE_HOME" in told.value.hint
    with pytest.raises(UsageError, match=bed.a.uuid):
        EndpointClient([bed.b.uuid], str(bed.a.home))


def test_a_frozen_peer_passes_the_deadline_and_a_later_try_succeeds(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b, seconds=1.0)
    name = key()
    a.put(name, b"weights")
    assert client_of(bed.b).exists(name, a.own)
    bed.a.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(TransferError, match=r"did not answer .* within 1 s.*in the middle of a transfer"):
            b.get(name, a.own, size=7)
        assert time.monotonic() - began < 20
        thaw = threading.Timer(1.5, bed.a.signal, [signal.SIGCONT])
        thaw.start()
        patient = client_of(bed.b, seconds=1.0, patience=Patience(tries=9, first=0.1))
        assert patient.get(name, a.own, size=7) == b"weights"
        thaw.join()
    finally:
        bed.a.signal(signal.SIGCONT)


def test_stopping_ends_a_wait_within_a_second(bed: Bed, client_of: ClientOf) -> None:
    stop = threading.Event()
    a = client_of(bed.a, stop=stop)
    bed.a.signal(signal.SIGSTOP)
    stopped: list[float] = []

    def set_stop() -> None:
        stopped.append(time.monotonic())
        stop.set()

    timer = threading.Timer(0.3, set_stop)
    try:
        for work in (lambda: a.put(key(), bytes(50 * MB)), lambda: a.exists("anything")):
            if not stopped:
                timer.start()
            with pytest.raises(TransferError, match="interrupted"):
                work()
            assert time.monotonic() - stopped[0] < 5  # a second, and a loaded machine
    finally:
        timer.join()
        bed.a.signal(signal.SIGCONT)


def test_a_relay_that_ends_in_the_middle_of_a_transfer(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b)
    name, data = key(), os.urandom(20 * MB)
    a.put(name, data)
    assert not b.exists(key(), a.own)
    killer = threading.Timer(0.3, bed.relay.signal, [signal.SIGKILL])
    killer.start()
    try:
        assert b.get(name, a.own, size=len(data)) == data
    except TransferError as error:
        # The transfer needs no relay, but ProxyStore's endpoints sometimes end with it.
        assert "has no connection" in error.message or "can't be reached" in error.message
        assert "proxystore-endpoint start b" in error.hint
    finally:
        killer.join()
        bed.relay.kill()
        bed.restart()


def test_the_own_endpoint_dies_in_the_middle_of_a_transfer(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b)
    name = key()
    a.put(name, os.urandom(20 * MB))
    assert not b.exists(key(), a.own)
    killer = threading.Timer(0.3, bed.b.signal, [signal.SIGKILL])
    killer.start()
    try:
        with pytest.raises(TransferError, match=f"{bed.b.uuid}.*can't be reached at 10.77.0.1:9002") as told:
            b.get(name, a.own, size=20 * MB)
        assert "proxystore-endpoint start b" in told.value.hint
        with pytest.raises(TransferError, match="Connection refused"):
            client_of(bed.b)
    finally:
        killer.join()
        bed.restart()


def test_a_holder_that_was_stopped(bed: Bed, client_of: ClientOf) -> None:
    b = client_of(bed.b)
    bed.a.signal(signal.SIGTERM)
    assert bed.a.process is not None
    with suppress(Exception):
        bed.a.process.wait(20)
    try:
        with pytest.raises(TransferError, match=f"{bed.a.uuid} does not run, or has lost its relay"):
            b.get(key(), bed.a.uuid, size=1)
    finally:
        bed.restart()


@pytest.mark.chaos
def test_a_holder_that_dies_in_the_middle_of_a_transfer(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b, patience=Patience(tries=2))
    name, data = key(), os.urandom(60 * MB)
    a.put(name, data)
    assert not b.exists(key(), a.own)
    killer = threading.Timer(0.5, bed.a.signal, [signal.SIGKILL])
    killer.start()
    began = time.monotonic()
    try:
        with pytest.raises(TransferError, match="does not run, or has lost its relay"):
            b.get(name, a.own, size=len(data))
        assert time.monotonic() - began < 120  # far below the deadline: it was asked whether it lives
    finally:
        killer.join()
        bed.restart()


@pytest.mark.chaos
def test_a_holder_that_freezes_for_a_minute(bed: Bed, client_of: ClientOf) -> None:
    a, b = client_of(bed.a), client_of(bed.b, patience=Patience(tries=2))
    name, data = key(), os.urandom(60 * MB)
    a.put(name, data)
    assert not b.exists(key(), a.own)
    timers = [
        threading.Timer(0.5, bed.a.signal, [signal.SIGSTOP]),
        threading.Timer(60.5, bed.a.signal, [signal.SIGCONT]),
    ]
    for timer in timers:
        timer.start()
    try:
        with pytest.raises(
            TransferError, match=r"has lost its relay|has no connection|lost a transfer"
        ) as told:
            b.get(name, a.own, size=len(data))
        assert "stop" in told.value.hint
    finally:
        for timer in timers:
            timer.join()
        bed.restart()


@pytest.mark.chaos
def test_a_new_connection_after_the_relay_was_restarted(bed: Bed, client_of: ClientOf) -> None:
    bed.relay.signal(signal.SIGTERM)
    assert bed.relay.process is not None
    bed.relay.process.wait(20)
    bed.restart()
    a, b = client_of(bed.a), client_of(bed.b)
    bed.relay.signal(signal.SIGTERM)
    bed.relay.process.wait(20)
    time.sleep(1)
    bed.relay.start()
    try:
        with pytest.raises(
            TransferError, match=r"has no connection|has lost its relay|did not answer"
        ) as told:
            b.exists(key(), a.own)
        assert "stop" in told.value.hint
    finally:
        bed.restart()


@pytest.mark.chaos
def test_a_peer_that_dies_while_it_is_served_blocks_the_endpoint_for_the_others(
    bed: Bed, client_of: ClientOf, tmp_path: Path
) -> None:
    third = Endpoint(tmp_path, "c", 9003, 8700, bed.namespace, 100 * MB)
    third.start()
    places = [*bed.endpoints, third.uuid]
    a, b = client_of(bed.a), client_of(bed.b)
    c = EndpointClient(places, str(third.home), seconds=10.0, patience=HASTY)
    name = key()
    try:
        a.put(name, os.urandom(60 * MB))
        assert c.exists(name, a.own)
        assert b.exists(name, a.own)
        killer = threading.Timer(0.5, bed.b.signal, [signal.SIGKILL])
        killer.start()
        with pytest.raises(TransferError):
            b.get(name, a.own, size=60 * MB)
        killer.join()
        with pytest.raises(TransferError, match=f"{bed.a.uuid} did not answer") as told:
            c.exists(name, a.own)
        assert f"Where {bed.a.uuid} runs, restart it" in told.value.hint
    finally:
        third.kill()
        bed.restart()
