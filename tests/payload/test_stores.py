"""Stores: what goes in comes out, and a reference of another party reaches nothing outside."""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from appfl_gc.payload import model_file
from appfl_gc.payload.codec import CODEC, Encoding, decode, spec_of
from appfl_gc.payload.encoded import MappedFile
from appfl_gc.payload.receive import bytes_of
from appfl_gc.payload.stores import FileStore, InlineStore, Store, Stores, from_grant
from appfl_gc.protocol.errors import TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import WireError

STATE = {"w": torch.arange(1000.0).reshape(10, 100), "n": torch.tensor(3)}


@pytest.fixture(params=["inline", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return InlineStore() if request.param == "inline" else FileStore(tmp_path / "payloads")


def test_round_trip_through_json(store: Store) -> None:
    ref = Ref.from_json(json.loads(json.dumps(store.put(Encoding(STATE)).to_json())))
    state = decode(bytes_of(store, ref), spec_of(STATE))
    assert torch.equal(state["w"], STATE["w"])
    state["w"].zero_()
    assert torch.equal(decode(bytes_of(store, ref), spec_of(STATE))["w"], STATE["w"])


def test_a_site_puts_and_opens_with_the_grant_alone(store: Store) -> None:
    site = from_grant(json.loads(json.dumps(store.grant([], 1 << 20))))
    state = decode(bytes_of(store, site.put(Encoding(STATE))), spec_of(STATE))
    assert torch.equal(state["w"], STATE["w"])


def test_other_bytes_than_were_sent_are_noticed(store: Store) -> None:
    ref = store.put(Encoding(STATE))
    other = store.put(Encoding({**STATE, "n": torch.tensor(4)}))
    with pytest.raises(TransferError, match="checksum"):
        bytes_of(store, replace(ref, locator=other.locator))
    with pytest.raises(TransferError):
        bytes_of(store, replace(ref, size=ref.size - 1))
    with pytest.raises(TransferError, match="algorithm"):
        bytes_of(store, replace(ref, checksum="md5:00"))


def test_evict_may_be_repeated(store: Store) -> None:
    ref = store.put(Encoding(STATE))
    store.evict(ref)
    store.evict(ref)


def test_inline_has_a_limit_in_raw_bytes() -> None:
    size = Encoding(STATE).size
    assert InlineStore(size).put(Encoding(STATE)).size == size
    with pytest.raises(TransferError, match="Configure a store"):
        InlineStore(size - 1).put(Encoding(STATE))


def test_inline_payloads_beyond_the_limit_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = InlineStore().put(Encoding(STATE))
    assert len(bytes_of(InlineStore(ref.size), ref)) == ref.size
    monkeypatch.setattr(base64, "b64decode", lambda *args, **kwargs: pytest.fail("decoded"))
    with pytest.raises(TransferError, match=rf"{ref.size:,} bytes.*may have {ref.size - 1:,}"):
        bytes_of(InlineStore(ref.size - 1), ref)


def test_inline_text_that_is_not_base64() -> None:
    ref = InlineStore().put(Encoding(STATE))
    with pytest.raises(TransferError):
        bytes_of(InlineStore(), replace(ref, locator="ü" * len(ref.locator)))


def test_the_true_encoded_size_decides(tmp_path: Path) -> None:
    size = Encoding(STATE).size
    files = FileStore(tmp_path)
    assert Stores(InlineStore(size), files).put(Encoding(STATE)).scheme == "inline"
    both = Stores(InlineStore(size - 1), files)
    ref = both.put(Encoding(STATE))
    assert ref.scheme == "file"
    granted = from_grant(both.grant([ref], size))
    assert len(bytes_of(granted, ref)) == size
    both.evict(ref)
    with pytest.raises(TransferError):
        bytes_of(both, ref)
    with pytest.raises(TransferError, match="'s3'"):
        bytes_of(both, replace(ref, scheme="s3"))


@pytest.mark.parametrize(
    "grant",
    [
        {},
        {"scheme": "carrier pigeon"},
        {"scheme": "file", "directory": "here"},
        {"scheme": "file", "directory": "/tmp"},
        {"scheme": "file", "directory": "/tmp", "locator": "../model.safetensors"},
    ],
)
def test_malformed_grants(grant: dict[str, str]) -> None:
    with pytest.raises(WireError):
        from_grant(grant)


class TestFileStore:
    def test_names_are_unguessable_and_files_private(self, tmp_path: Path) -> None:
        store = FileStore(tmp_path / "new")
        first, second = store.put(Encoding(STATE)), store.put(Encoding(STATE))
        assert first.locator != second.locator
        assert first.checksum == second.checksum
        assert len(first.locator) >= 32
        assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((store.directory / first.locator).stat().st_mode) == 0o600

    def test_files_are_readable_for_the_group_where_the_directory_is(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o750)
        ref = FileStore(tmp_path).put(Encoding(STATE))
        assert stat.S_IMODE((tmp_path / ref.locator).stat().st_mode) == 0o640

    @pytest.mark.parametrize(
        "locator", ["../secret", "/etc/passwd", "", "x.safetensors", "a" * 32 + ".safetensors\n"]
    )
    def test_a_locator_never_leaves_the_directory(self, tmp_path: Path, locator: str) -> None:
        store = FileStore(tmp_path / "payloads")
        secret = tmp_path / "secret"
        secret.write_text("keep")
        ref = replace(store.put(Encoding(STATE)), locator=locator, size=4)
        for act in (store.evict, store.descriptor):
            with pytest.raises(TransferError):
                act(ref)
        assert secret.read_text() == "keep"

    def test_links_pipes_and_directories_are_not_opened(self, tmp_path: Path) -> None:
        store = FileStore(tmp_path / "payloads")
        ref = store.put(Encoding(STATE))
        path = store.directory / ref.locator
        aside = path.rename(tmp_path / "aside")
        path.symlink_to(aside)
        with pytest.raises(TransferError):
            store.descriptor(ref)
        store.evict(ref)
        assert aside.exists()
        os.mkfifo(path)
        with pytest.raises(TransferError):
            store.descriptor(ref)
        path.unlink()
        path.mkdir()
        with pytest.raises(TransferError):
            store.descriptor(ref)

    def test_truncated_and_missing_files(self, tmp_path: Path) -> None:
        store = FileStore(tmp_path)
        ref = store.put(Encoding(STATE))
        os.truncate(tmp_path / ref.locator, ref.size - 10)
        with pytest.raises(TransferError, match=f"{ref.size:,} bytes"):
            store.descriptor(ref)
        (tmp_path / ref.locator).unlink()
        with pytest.raises(TransferError, match="share"):
            store.descriptor(ref)

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = FileStore(tmp_path)
        monkeypatch.setattr(os, "writev", _full_disk)
        with pytest.raises(TransferError, match="No space left"):
            store.put(Encoding(STATE))
        assert list(tmp_path.iterdir()) == []

    def test_a_site_without_the_directory_is_told_so(self, tmp_path: Path) -> None:
        locator = "0" * 32 + ".safetensors"
        site = from_grant({"scheme": "file", "directory": str(tmp_path / "elsewhere"), "locator": locator})
        with pytest.raises(TransferError, match="elsewhere"):
            site.put(Encoding(STATE))
        assert not (tmp_path / "elsewhere").exists()

    def test_a_file_is_stored_without_a_copy_and_kept(self, tmp_path: Path) -> None:
        model = tmp_path / "model.safetensors"
        model_file.write(STATE, model)
        store = FileStore(tmp_path / "payloads")
        ref = store.put(MappedFile(model, CODEC))
        assert (store.directory / ref.locator).stat().st_ino == model.stat().st_ino
        assert torch.equal(decode(bytes_of(store, ref), spec_of(STATE))["w"], STATE["w"])
        store.evict(ref)
        assert torch.equal(model_file.open(model)["w"], STATE["w"])

    def test_a_file_of_another_file_system_is_copied(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = tmp_path / "model.safetensors"
        model_file.write(STATE, model)
        monkeypatch.setattr(os, "link", _other_device)
        store = FileStore(tmp_path / "payloads")
        ref = store.put(MappedFile(model, CODEC))
        assert torch.equal(decode(bytes_of(store, ref), spec_of(STATE))["w"], STATE["w"])

    def test_encoded_bytes_pass_without_a_second_copy_of_the_model(self, tmp_path: Path) -> None:
        state = {"large": torch.zeros(1_000_000), "other": torch.ones(10)}
        chunks = list(Encoding(state).chunks())
        address = torch.frombuffer(chunks[1], dtype=torch.uint8).data_ptr()
        assert address == state["large"].data_ptr()


def _full_disk(fd: int, parts: list[memoryview]) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _other_device(*args: object, **kwargs: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_base64_is_plain() -> None:
    ref = InlineStore().put(Encoding(STATE))
    assert len(base64.b64decode(ref.locator)) == ref.size
