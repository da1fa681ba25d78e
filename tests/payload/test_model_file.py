"""A model file is there whole or not at all, and reading it is cheap."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from appfl_gc.payload import files, model_file
from appfl_gc.payload.codec import spec_of
from appfl_gc.protocol.errors import TransferError

STATE = {"w": torch.arange(10.0), "n": torch.tensor(2)}


def test_written_and_mapped(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(STATE, path)
    tensors = model_file.open(path)
    assert list(tensors) == ["w", "n"]
    assert torch.equal(tensors["w"], STATE["w"])
    assert model_file.read_spec(path) == spec_of(STATE)
    tensors["w"].zero_()
    assert torch.equal(model_file.open(path)["w"], STATE["w"])


def test_mapped_tensors_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(STATE, path)
    tensors = model_file.open(path)
    path.unlink()
    assert torch.equal(tensors["w"], STATE["w"])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(STATE, path)

    def fail(fd: int, chunks: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(model_file, "write_chunks", fail)
    with pytest.raises(OSError, match="full"):
        model_file.write({"w": torch.zeros(3)}, path)
    assert torch.equal(model_file.open(path)["w"], STATE["w"])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_durable_files_are_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(files.os, "fsync", synced.append)
    model_file.write(STATE, tmp_path / "a")
    assert len(synced) == 2, "the file and its directory"
    model_file.write(STATE, tmp_path / "b", durable=False)
    assert len(synced) == 2


@pytest.mark.parametrize("content", [b"", b"junk", b"\0" * 200])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(content)
    with pytest.raises(TransferError, match=r"other\.bin"):
        model_file.open(path)
    with pytest.raises(TransferError, match="absent"):
        model_file.open(tmp_path / "absent")
