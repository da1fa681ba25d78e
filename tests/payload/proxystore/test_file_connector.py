"""Payloads in a directory of the FileConnector."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from appfl_gc.payload.proxystore.granted import from_grant
from appfl_gc.payload.proxystore.making import make_store
from appfl_gc.payload.proxystore.store import ProxyStoreStore
from appfl_gc.protocol.errors import StorageError, TransferError
from tests.payload.proxystore.samples import Progress, Sample, fetched

SAMPLE = Sample.of(9_000_001)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "new" / "store"


@pytest.fixture
def store(directory: Path) -> ProxyStoreStore:
    return make_store("FileConnector", {"store_dir": str(directory)}, threading.Event())


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_round_trip_between_server_and_site(store: ProxyStoreStore, directory: Path) -> None:
    sent = Progress()
    ref = store.put(SAMPLE, sent)
    assert (ref.checksum, sent.last) == (SAMPLE.checksum, SAMPLE.size)
    site = from_grant(json.loads(json.dumps(store.grant([ref], SAMPLE.size))))
    assert fetched(site, ref) == SAMPLE.data
    reply = site.put(SAMPLE)
    fd = store.descriptor(reply)
    assert fd is not None
    with os.fdopen(fd, "rb") as file:
        assert file.read() == SAMPLE.data
    assert names(directory) == {f"{one.locator}-0{end}" for one in (ref, reply) for end in ("", ".ready")}
    for one in (ref, reply, ref):
        store.evict(one)
    assert names(directory) == set()


def test_small_parts_work_too(directory: Path) -> None:
    store = make_store("FileConnector", {"store_dir": str(directory)}, threading.Event(), part_bytes=1 << 20)
    ref = store.put(SAMPLE)
    assert len(names(directory)) == 18
    assert store.descriptor(ref) is None
    site = from_grant(store.grant([ref], SAMPLE.size))
    assert fetched(site, ref) == SAMPLE.data
    store.evict(ref)
    assert names(directory) == set()


def test_proxystore_s_own_connector_reads_what_we_put_and_we_read_what_it_put(
    store: ProxyStoreStore, directory: Path
) -> None:
    from proxystore.connectors.file import FileConnector, FileKey

    ref = store.put(Sample(b"0123456789"))
    with FileConnector(str(directory), clear=False) as connector:
        assert connector.get(FileKey(f"{ref.locator}-0")) == b"0123456789"
        connector.set(FileKey(f"{ref.locator}-0"), b"abcdefghij")
    assert fetched(store, ref) == b"abcdefghij"


def test_closing_leaves_everything(store: ProxyStoreStore, directory: Path) -> None:
    """ProxyStore's own connector removes the directory, unless it is told not to."""
    (directory / "somebody's").write_text("x")
    ref = store.put(SAMPLE)
    store.close()
    assert names(directory) == {"somebody's", f"{ref.locator}-0", f"{ref.locator}-0.ready"}


@pytest.mark.parametrize(
    "locator", ["../outside", "somebody's", "0" * 32 + "/../../outside", "0" * 32 + "@x", ""]
)
def test_a_reference_reaches_nothing_else(store: ProxyStoreStore, directory: Path, locator: str) -> None:
    ref = replace(store.put(SAMPLE), locator=locator)
    for work in (store.evict, store.descriptor, lambda ref: fetched(store, ref)):
        with pytest.raises(TransferError, match="never gave"):
            work(ref)


def test_links_pipes_and_other_sizes_are_not_read(store: ProxyStoreStore, directory: Path) -> None:
    ref = store.put(SAMPLE)
    path = directory / f"{ref.locator}-0"
    with pytest.raises(TransferError, match=r"not a regular file of 9,000,000 bytes"):
        store.descriptor(replace(ref, size=9_000_000))
    path.rename(directory / "elsewhere")
    path.symlink_to(directory / "elsewhere")
    with pytest.raises(TransferError, match="can't be read"):
        fetched(store, ref)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TransferError, match="not a regular file"):
        fetched(store, ref)
    store.evict(ref)
    with pytest.raises(TransferError, match="No such file"):
        fetched(store, ref)


def test_files_are_as_private_as_their_directory(store: ProxyStoreStore, directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    private = store.put(SAMPLE)
    directory.chmod(0o755)
    open_to_all = store.put(SAMPLE)
    modes = [stat.S_IMODE((directory / f"{one.locator}-0").stat().st_mode) for one in (private, open_to_all)]
    assert modes == [0o600, 0o644]


def test_a_site_does_not_make_the_directory(store: ProxyStoreStore, directory: Path) -> None:
    site = from_grant(store.grant([], SAMPLE.size))
    directory.rmdir()
    with pytest.raises(TransferError, match="No such file or directory") as caught:
        site.put(SAMPLE)
    assert "same directory" in caught.value.hint


def test_a_relative_directory_means_the_server_s_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = make_store("FileConnector", {"store_dir": "here"}, threading.Event())
    assert store.grant([], 1)["configs"] == {"store_dir": str(tmp_path / "here")}


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    mount = tmp_path / "full"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("can't mount a file system here")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(full_disk: Path) -> None:
    store = make_store("FileConnector", {"store_dir": str(full_disk)}, threading.Event())
    with pytest.raises(TransferError, match=r"cannot be written to .*: No space left") as caught:
        store.put(SAMPLE)
    assert "room for the model" in caught.value.hint
    assert names(full_disk) == set()


def test_a_full_disk_where_payloads_arrive_is_this_machine_s_trouble(
    store: ProxyStoreStore, full_disk: Path
) -> None:
    ref = store.put(SAMPLE)
    with (
        tempfile.TemporaryFile(dir=full_disk) as file,
        pytest.raises(StorageError, match=f"into {full_disk} on the machine .+: no space is left"),
    ):
        store.fetch(ref, file.fileno(), lambda count: None)


def test_a_full_quota_is_one_clear_error(store: ProxyStoreStore, directory: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(TransferError, match="File too large"):
            store.put(SAMPLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(directory) == set()


def test_stopping_ends_a_put(directory: Path) -> None:
    stop = threading.Event()
    store = make_store("FileConnector", {"store_dir": str(directory)}, stop)
    with pytest.raises(TransferError, match="interrupted"):
        store.put(SAMPLE, lambda count: stop.set() if count > 3_000_000 else None)
    assert names(directory) == set()


def test_a_withdrawn_grant_leaves_nothing(store: ProxyStoreStore, directory: Path) -> None:
    grant = store.grant([], SAMPLE.size)
    from_grant(grant).put(SAMPLE)
    store.withdraw({"scheme": "proxystore", "locator": grant["locator"]})
    assert names(directory) == set()


@pytest.mark.parametrize("when", ["made", "swept"])
def test_what_killed_workers_left_half_written_goes_after_eight_days(
    store: ProxyStoreStore, directory: Path, when: str
) -> None:
    ref = store.put(SAMPLE)
    code = f"""
import os, threading
from appfl_gc.payload.proxystore.making import make_store

class Killer:
    codec, size = "sample", 8 << 20
    def chunks(self):
        yield memoryview(bytes(4 << 20))
        os._exit(1)

make_store("FileConnector", {{"store_dir": {str(directory)!r}}}, threading.Event()).put(Killer())
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    (unfinished,) = names(directory) - {f"{ref.locator}-0", f"{ref.locator}-0.ready"}
    fresh = unfinished.replace("-0.", "-1.")
    others = {".notes.part", unfinished + "x", unfinished[1:]}
    for name in {fresh, *others}:
        (directory / name).write_text("x")
    for name in names(directory) - {fresh}:
        long_ago = time.time() - 8.1 * 24 * 3600
        os.utime(directory / name, (long_ago, long_ago))
    kept = names(directory) - {unfinished}
    if when == "made":
        make_store("FileConnector", {"store_dir": str(directory)}, threading.Event())
    else:
        store.evict(ref)
        store.sweep()
        kept -= {f"{ref.locator}-0", f"{ref.locator}-0.ready"}
    assert names(directory) == kept


def test_a_payload_made_piece_by_piece_takes_no_memory(tmp_path: Path) -> None:
    """As an encrypted one is: its chunks exist only while they are written."""
    code = f"""
import os, threading
from appfl_gc.payload.proxystore.making import make_store

class Made:
    codec, size = "made", 200_000_000
    def chunks(self):
        block = os.urandom(1_000_000)
        for _ in range(200):
            yield memoryview(bytearray(block))

def anonymous():
    text = open("/proc/self/status").read()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024

store = make_store("FileConnector", {{"store_dir": {str(tmp_path)!r}}}, threading.Event())
before, most = anonymous(), [0]
store.put(Made(), lambda count: most.append(anonymous()))
print(max(most) - before)
"""
    assert int(subprocess.check_output([sys.executable, "-c", code], text=True)) < 60_000_000


def test_neither_torch_nor_proxystore_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, threading; from appfl_gc.payload.proxystore.making import make_store;"
        f"make_store('FileConnector', {{'store_dir': {str(tmp_path)!r}}}, threading.Event());"
        "print({'torch', 'proxystore', 'redis', 'globus_sdk'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
