"""The arena and its gate: what is let in, what is refused in which words, and what reuse leaves behind."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from appfl_gc.payload import checksum, gate
from appfl_gc.payload.arena import Arena
from appfl_gc.payload.codec import Encoding, spec_of
from appfl_gc.payload.coding import Coding, compressed
from appfl_gc.payload.stores import FileStore, InlineStore, Store
from appfl_gc.payload.workers import for_each
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import AppflGcError, StorageError, TransferError, UpdateRefusedError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.update_spec import TensorSpec, UpdateSpec


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(30, 50, generator=generator),
        "half": torch.randn(7, generator=generator).bfloat16(),
        "count": torch.tensor(seed),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
    }


SPEC = spec_of(state())
pread = os.pread


@pytest.fixture(params=["inline", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return InlineStore() if request.param == "inline" else FileStore(tmp_path)


@pytest.fixture
def arena() -> Iterator[Arena]:
    with Arena(SPEC, 4) as opened:
        yield opened


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return list(left) == list(right) and all(torch.equal(left[name], right[name]) for name in left)


def test_updates_land_and_rows_form_matrices(arena: Arena, store: Store) -> None:
    for slot in range(4):
        arena.land(slot, store.put(Encoding(state(slot))), store)
    assert all(equal(arena.state(slot), state(slot)) for slot in range(4))
    assert arena.landed == {0, 1, 2, 3}
    run = next(run for run in arena.layout.runs() if run.dtype == "float32")
    expected = torch.stack([state(slot)["weight"].reshape(-1) for slot in range(4)])
    for slots in ([0, 1, 2, 3], [1, 3], [3], [2, 0, 3], [1, 0], [0, 1, 3]):
        block = arena.block(slots, run, 100, 700)
        assert torch.equal(block, expected[slots, 100:700])
    assert arena.block([0, 2], run, 0, 10).data_ptr() == arena.state(0)["weight"].data_ptr()
    arena.free(1)
    with pytest.raises(AppflGcError, match="Slot 1 holds no update"):
        arena.block([0, 1, 2], run, 0, 10)


def test_writing_to_a_row_changes_no_payload(arena: Arena, tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    ref = store.put(Encoding(state(1)))
    arena.land(0, ref, store)
    arena.state(0)["weight"].zero_()
    arena.free(0)
    arena.land(0, ref, store)
    assert equal(arena.state(0), state(1))


def test_a_payload_may_be_evicted_once_it_has_landed(arena: Arena, store: Store) -> None:
    ref = store.put(Encoding(state(1)))
    arena.land(0, ref, store)
    store.evict(ref)
    assert equal(arena.state(0), state(1))


def test_slots_are_used_again(arena: Arena, store: Store) -> None:
    arena.land(0, store.put(Encoding(state(1))), store)
    with pytest.raises(AppflGcError, match="not free"):
        arena.land(0, store.put(Encoding(state(2))), store)
    arena.free(0)
    arena.free(0)
    with pytest.raises(AppflGcError, match="holds no update"):
        arena.state(0)
    arena.land(0, store.put(Encoding(state(2))), store)
    assert equal(arena.state(0), state(2))
    with pytest.raises(AppflGcError):
        arena.land(4, store.put(Encoding(state(2))), store)


def test_views_outlive_the_arena_without_harm(store: Store) -> None:
    arena = Arena(SPEC, 2)
    arena.land(1, store.put(Encoding(state(1))), store)
    view = arena.state(1)["weight"]
    arena.close()
    arena.close()
    del arena
    assert view.abs().sum() == 0


def test_slots_take_no_memory_until_they_are_used() -> None:
    large = UpdateSpec((TensorSpec("w", (10_000_000_000,), "float32"),))
    with Arena(large, 200) as arena:
        assert arena.landed == frozenset()


def test_landing_in_parallel(store: Store) -> None:
    with Arena(SPEC, 20) as arena:
        refs = [store.put(Encoding(state(slot))) for slot in range(20)]
        for_each(range(20), lambda slot: arena.land(slot, refs[slot], store), 4)
        assert all(equal(arena.state(slot), state(slot)) for slot in range(20))


def test_a_file_of_another_owner_is_copied(
    arena: Arena, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    refs = [store.put(Encoding(state(seed))) for seed in (1, 2)]
    arena.land(0, refs[0], store)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    arena.land(1, refs[1], store)
    for ref in refs:
        with (tmp_path / ref.locator).open("r+b") as file:
            file.write(b"\0" * ref.size)
    assert equal(arena.state(1), state(2))
    assert not equal(arena.state(0), state(1)), "files of our own are expected to be mapped, not copied"


class TestGate:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"weight": torch.zeros(50, 30)},
                r"'weight' is float32 of shape \[50, 30\]; expected .*\[30, 50\]",
            ),
            ({"weight": torch.zeros(30, 51)}, r"'weight' is .*\[30, 51\]; expected .*\[30, 50\]"),
            ({"weight": torch.zeros(30, 50, dtype=torch.int32)}, r"'weight' is int32 .*expected float32"),
            ({"weight": torch.zeros(30, 50).double()}, r"'weight' is float64 .*expected float32"),
            ({"more": torch.zeros(1)}, r"'more' .*not part"),
            ({"weight": None}, r"'weight' is missing"),
        ],
    )
    def test_spec(self, arena: Arena, store: Store, change: dict[str, torch.Tensor], message: str) -> None:
        wrong = {name: tensor for name, tensor in (state() | change).items() if tensor is not None}
        with pytest.raises(UpdateRefusedError, match=message):
            arena.land(0, store.put(Encoding(wrong)), store)
        assert arena.landed == frozenset()

    def test_renamed_tensor(self, arena: Arena, store: Store) -> None:
        wrong = {("Weight" if name == "weight" else name): tensor for name, tensor in state().items()}
        with pytest.raises(UpdateRefusedError, match="'weight' is missing"):
            arena.land(0, store.put(Encoding(wrong)), store)

    @pytest.mark.parametrize(
        ("name", "index", "value", "kind"),
        [
            ("weight", (0, 0), float("nan"), "NaN"),
            ("weight", (29, 49), float("inf"), "infinite"),
            ("weight", (17, 3), float("-inf"), "infinite"),
            ("half", (6,), float("nan"), "NaN"),
        ],
    )
    def test_not_finite(
        self, arena: Arena, store: Store, name: str, index: tuple[int, ...], value: float, kind: str
    ) -> None:
        wrong = state()
        wrong[name][index] = value
        with pytest.raises(UpdateRefusedError) as caught:
            arena.land(0, store.put(Encoding(wrong)), store)
        assert kind in caught.value.message
        assert repr(name) in caught.value.message
        assert str(list(index)) in caught.value.message

    def test_not_finite_beyond_the_first_block(self, tmp_path: Path) -> None:
        large = {"a": torch.zeros(gate.BLOCK), "b": torch.zeros(10).double()}
        large["a"][gate.BLOCK - 5] = float("nan")
        store = FileStore(tmp_path)
        with Arena(spec_of(large), 1) as arena, pytest.raises(UpdateRefusedError, match=str(gate.BLOCK - 5)):
            arena.land(0, store.put(Encoding(large)), store)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
    def test_finite_numbers_whose_sum_overflows_are_let_in(self, store: Store, dtype: torch.dtype) -> None:
        huge = {"w": torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)}
        with Arena(spec_of(huge), 1) as arena:
            arena.land(0, store.put(Encoding(huge)), store)
            assert torch.equal(arena.state(0)["w"], huge["w"])

    def test_a_bool_that_is_neither(self, arena: Arena, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        wrong = state()
        wrong["mask"] = torch.tensor([0, 1, 2], dtype=torch.uint8).view(torch.bool)
        with pytest.raises(UpdateRefusedError, match=r"neither true nor false .*'mask'.*\[2\]"):
            arena.land(0, store.put(Encoding(wrong)), store)

    def test_an_altered_byte(self, arena: Arena, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(state()))
        with (tmp_path / ref.locator).open("r+b") as file:
            file.seek(-40, os.SEEK_END)
            file.write(b"\x55")
        with pytest.raises(TransferError, match="checksum"):
            arena.land(0, ref, store)
        assert arena.landed == frozenset()

    def test_bytes_that_are_no_payload(self, arena: Arena, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(state()))
        for size in (ref.size, 10):
            junk = b"\x07" * size
            (tmp_path / ref.locator).write_bytes(junk)
            with pytest.raises(UpdateRefusedError):
                arena.land(0, replace(ref, size=size, checksum=checksum.of(memoryview(junk))), store)

    @pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
    def test_a_refused_update_is_not_kept_mapped(self, arena: Arena, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        wrong = state()
        wrong["weight"][0, 0] = float("nan")
        ref = store.put(Encoding(wrong))
        with pytest.raises(UpdateRefusedError):
            arena.land(0, ref, store)
        assert ref.locator not in Path("/proc/self/maps").read_text()

    def test_a_truncated_file_and_a_false_size(self, arena: Arena, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(state()))
        os.truncate(tmp_path / ref.locator, ref.size - 1)
        for wrong in (ref, replace(ref, size=ref.size - 1), replace(ref, size=1 << 50)):
            with pytest.raises((TransferError, UpdateRefusedError)):
                arena.land(0, wrong, store)

    @pytest.mark.parametrize("same_header", [True, False])
    def test_only_the_header_of_a_wrong_sized_file_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_header: bool
    ) -> None:
        store, small, size = FileStore(tmp_path), {"w": torch.ones(10)}, 20 << 30
        ref = store.put(Encoding(small if same_header else {"w": torch.ones(11)}))
        os.truncate(tmp_path / ref.locator, size)
        looked: list[int] = []
        monkeypatch.setattr(FileStore, "fetch", lambda *args: pytest.fail("opened"))
        monkeypatch.setattr(os, "pread", lambda fd, n, at: looked.append(n) or pread(fd, n, at))
        expected = rf"{size:,} bytes; expected" if same_header else r"'w' is .*\[11\]; expected .*\[10\]"
        with Arena(spec_of(small), 1) as arena, pytest.raises(UpdateRefusedError, match=expected):
            arena.land(0, replace(ref, size=size), store)
        assert 0 < sum(looked) <= 1 << 20

    def test_a_header_that_never_ends(self, arena: Arena, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(state()))
        (tmp_path / ref.locator).write_bytes((90_000_000).to_bytes(8, "little") + b'{"')
        os.truncate(tmp_path / ref.locator, 100_000_000)
        with pytest.raises(UpdateRefusedError, match="100,000,000 bytes; expected"):
            arena.land(0, replace(ref, size=100_000_000), store)

    def test_an_empty_payload(self, arena: Arena, store: Store) -> None:
        with pytest.raises((TransferError, UpdateRefusedError)):
            arena.land(0, Ref("inline", "", 0, "xxh3-128:0", "safetensors-1"), InlineStore())

    def test_another_codec(self, arena: Arena, store: Store) -> None:
        ref = store.put(Encoding(state()))
        with pytest.raises(UpdateRefusedError, match="pickle"):
            arena.land(0, replace(ref, codec="pickle"), store)

    def test_a_header_far_longer_than_the_models_is_not_read(self, tmp_path: Path) -> None:
        small = {"w": torch.zeros(300_000)}
        store = FileStore(tmp_path)
        ref = store.put(Encoding(small))
        path = tmp_path / ref.locator
        names = json.dumps({f"t{index}": 0 for index in range(40_000)}).encode()
        forged = len(names).to_bytes(8, "little") + names
        path.write_bytes(forged + path.read_bytes()[len(forged) :])
        forged_ref = replace(ref, checksum=checksum.of(memoryview(path.read_bytes())))
        with Arena(spec_of(small), 1) as arena, pytest.raises(UpdateRefusedError, match="header has"):
            arena.land(0, forged_ref, store)


def test_a_disk_without_room_for_what_is_decoded_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    how = Coding(CompressionSettings(lossless="zlib"))
    store, large = FileStore(tmp_path), {"w": torch.zeros(100_000)}
    ref = store.put(compressed(Encoding(large), how))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with Arena(spec_of(large), 1) as arena:
        with pytest.raises(StorageError, match="No space left"):
            arena.land(0, ref, store, how)
        monkeypatch.undo()
        arena.land(0, ref, store, how)
        assert torch.equal(arena.state(0)["w"], large["w"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_users_file_is_never_mapped_where_it_lies(tmp_path: Path) -> None:
    how = Coding(CompressionSettings(lossless="zlib"))
    store, state_ = FileStore(tmp_path), {"w": torch.arange(1000.0)}
    for payload in (Encoding(state_), compressed(Encoding(state_), how)):
        ref = store.put(payload)
        os.chown(tmp_path / ref.locator, 12345, -1)
        with Arena(spec_of(state_), 1) as arena:
            arena.land(0, ref, store, how)
            assert ref.locator not in Path("/proc/self/maps").read_text()
            assert torch.equal(arena.state(0)["w"], state_["w"])
