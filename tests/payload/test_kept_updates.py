"""Accepted updates as files of their own: they outlive the server, and what has happened to them is noticed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from appfl_gc.payload import checksum, files
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, decode, spec_of
from appfl_gc.payload.coding import PLAIN, Coding, compressed
from appfl_gc.payload.files import give_name
from appfl_gc.payload.stores import FileStore, InlineStore, Store
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import AppflGcError, StorageError, TransferError, UpdateRefusedError
from appfl_gc.protocol.reference import Ref


def state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(300, 50, generator=generator), "count": torch.tensor(seed)}


SPEC = spec_of(state(0))
LOSSLESS = Coding(CompressionSettings(lossless="zlib"))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def kept_at(tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / "update"


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    with Arena(SPEC, 8, tmp_path) as opened:
        yield opened


@pytest.fixture(params=["file", "inline", "inline-compressed"])
def arriving(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Ref, Coding]:
    store = FileStore(tmp_path / "store") if request.param == "file" else InlineStore()
    if request.param != "inline-compressed":
        return store, store.put(Encoding(state(1))), PLAIN
    return store, store.put(compressed(Encoding(state(1)), LOSSLESS)), LOSSLESS


def test_a_kept_update_lands_again_after_everything_else_is_gone(
    arriving: tuple[Store, Ref, Coding], tmp_path: Path, kept_at: Path
) -> None:
    store, ref, how = arriving
    with Arena(SPEC, 2, tmp_path) as first:
        first.land(0, ref, store, how)
        first.state(0)["weight"].zero_()
        found = first.keep(0, kept_at)
        store.evict(ref)
    assert found == checksum.of(memoryview(kept_at.read_bytes()))
    assert same(decode(memoryview(kept_at.read_bytes()), SPEC), state(1))
    with Arena(SPEC, 2, tmp_path) as second:
        second.land_kept(1, kept_at, found)
        assert same(second.state(1), state(1))
        # Once more, as a server does that is killed twice.
        inode = kept_at.stat().st_ino
        assert second.keep(1, kept_at) == found
        assert kept_at.stat().st_ino == inode
        assert [path.name for path in kept_at.parent.iterdir()] == [kept_at.name]
    assert same(decode(memoryview(kept_at.read_bytes()), SPEC), state(1))


def test_keeping_takes_no_second_copy(
    arena: Arena, arriving: tuple[Store, Ref, Coding], kept_at: Path
) -> None:
    store, ref, how = arriving
    arena.land(0, ref, store, how)
    before = None if not isinstance(store, FileStore) else (store.directory / ref.locator).stat().st_ino
    arena.keep(0, kept_at)
    assert before in (None, kept_at.stat().st_ino)
    maps = Path("/proc/self/maps").read_text()
    assert str(kept_at.stat().st_ino) in maps, "the row still lies in the very file that was kept"


def test_where_a_file_can_have_no_second_name_it_is_copied(
    arena: Arena, arriving: tuple[Store, Ref, Coding], kept_at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ref, how = arriving
    monkeypatch.setattr("appfl_gc.payload.arena.give_name", lambda fd, path: False)
    arena.land(0, ref, store, how)
    kept_at.write_text("what stood here before")
    found = arena.keep(0, kept_at)
    assert found == checksum.of(memoryview(kept_at.read_bytes()))
    assert same(decode(memoryview(kept_at.read_bytes()), SPEC), state(1))
    assert [path.name for path in kept_at.parent.iterdir()] == [kept_at.name]


def test_a_name_is_given_where_nameless_files_are_none_of_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network file system: the file is made otherwise, and can have no name."""
    real = os.open

    def without(path: object, flags: int, *more: int, **options: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return real(path, flags, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", without)
    with files.nameless_file(10, tmp_path) as file:
        assert os.fstat(file.fileno()).st_size == 10
        assert not give_name(file.fileno(), tmp_path / "name")
    assert list(tmp_path.iterdir()) == []


def test_keeping_in_parallel(arena: Arena, tmp_path: Path) -> None:
    store = InlineStore()
    refs = [store.put(Encoding(state(slot))) for slot in range(8)]
    found: dict[int, str] = {}

    def arrive(slot: int) -> None:
        arena.land(slot, refs[slot], store)
        found[slot] = arena.keep(slot, tmp_path / str(slot))

    for_each(range(8), arrive, 4)
    assert found == {slot: ref.checksum for slot, ref in enumerate(refs)}


@pytest.mark.parametrize(
    "damage", ["gone", "shorter", "longer", "other bytes", "a link", "a directory", "a pipe"]
)
def test_a_damaged_file_is_found_out_and_the_slot_stays_free(
    arena: Arena, kept_at: Path, damage: str
) -> None:
    store = InlineStore()
    arena.land(0, store.put(Encoding(state(1))), store)
    found = arena.keep(0, kept_at)
    arena.free(0)
    content = kept_at.read_bytes()
    kept_at.unlink()
    if damage == "shorter":
        kept_at.write_bytes(content[:-1])
    elif damage == "longer":
        kept_at.write_bytes(content + b"\0")
    elif damage == "other bytes":
        kept_at.write_bytes(content[:-5] + b"\1" + content[-4:])
    elif damage == "a link":
        kept_at.with_name("real").write_bytes(content)
        kept_at.symlink_to("real")
    elif damage == "a directory":
        kept_at.mkdir()
    elif damage == "a pipe":
        os.mkfifo(kept_at)
    with pytest.raises(TransferError, match=r"kept update|checksum differs"):
        arena.land_kept(0, kept_at, found)
    assert arena.landed == frozenset()
    arena.land(0, store.put(Encoding(state(2))), store)


def test_a_kept_update_passes_the_same_gate(arena: Arena, kept_at: Path) -> None:
    poisoned = state(1)
    poisoned["weight"][3, 4] = float("nan")
    kept_at.write_bytes(b"".join(Encoding(poisoned).chunks()))
    with pytest.raises(UpdateRefusedError, match=r"NaN stands in tensor 'weight' .*\[3, 4\]"):
        arena.land_kept(0, kept_at, checksum.of(memoryview(kept_at.read_bytes())))
    with pytest.raises(TransferError, match="another algorithm"):
        arena.land_kept(0, kept_at, "crc:123")


def test_only_what_has_landed_is_kept_and_once(arena: Arena, kept_at: Path) -> None:
    store = InlineStore()
    with pytest.raises(AppflGcError, match="Slot 0 holds no update"):
        arena.keep(0, kept_at)
    arena.land(0, store.put(Encoding(state(1))), store)
    arena.keep(0, kept_at)
    with pytest.raises(AppflGcError, match="kept before"):
        arena.keep(0, kept_at)
    with pytest.raises(AppflGcError, match="not free"):
        arena.land_kept(0, kept_at, "")


def test_a_directory_that_is_gone_is_told(arena: Arena, kept_at: Path) -> None:
    store = InlineStore()
    arena.land(0, store.put(Encoding(state(1))), store)
    shutil.rmtree(kept_at.parent)
    with pytest.raises(StorageError, match=r"can't be kept in .*No such file"):
        arena.keep(0, kept_at)


def open_files() -> set[tuple[str, Path]]:
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add((path.name, path.readlink()))
    return found


def test_no_descriptor_stays(tmp_path: Path) -> None:
    store = InlineStore()
    ref = store.put(Encoding(state(1)))
    broken = Ref(ref.scheme, ref.locator, ref.size, "xxh3-128:0", ref.codec)
    before = open_files()
    with Arena(SPEC, 2, tmp_path) as arena:
        for _ in range(3):
            arena.land(0, ref, store)
            arena.free(0)
            arena.land(0, ref, store)
            arena.keep(0, tmp_path / "kept")
            arena.free(0)
            arena.land_kept(0, tmp_path / "kept", ref.checksum)
            with pytest.raises(TransferError):
                arena.land(1, broken, store)
            arena.free(0)
    assert open_files() <= before
