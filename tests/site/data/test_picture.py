"""The picture of a partition."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from appfl_gc.site.data import Dataset, dirichlet_noniid_partition, iid_partition
from appfl_gc.site.data.picture import draw_partition

DATA = Dataset(torch.zeros(200, 1), torch.arange(200) % 10)


def test_the_picture_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    dirichlet_noniid_partition(DATA, 3, True, str(tmp_path / "deep"), "who.png")
    assert (tmp_path / "deep" / "who.png").read_bytes().startswith(b"\x89PNG")


def test_the_name_has_a_default_and_the_ending_decides_the_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    iid_partition(DATA, 2, visualization=True)
    assert (tmp_path / "partition.png").is_file()
    counts = np.ones((2, 3), dtype=np.int64)
    assert draw_partition(counts, ["a", "b", "c"], None, "who") == Path("who.png")
    draw_partition(counts, ["a", "b", "c"], None, "who.pdf")
    assert (tmp_path / "who.pdf").read_bytes().startswith(b"%PDF")


def test_without_visualization_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    iid_partition(DATA, 2)
    assert not list(tmp_path.iterdir())


def test_many_clients_and_classes_fit_one_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    counts = np.random.default_rng(0).integers(0, 5, (2500, 300))
    path = draw_partition(counts, [str(name) for name in range(300)], str(tmp_path), None)
    assert path is not None
    assert max(imread(path).shape) < 4000  # pixels


def test_the_state_of_pyplot_is_not_touched(tmp_path: Path) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    iid_partition(DATA, 2, True, str(tmp_path))
    assert pyplot.get_fignums() == before


def test_a_missing_matplotlib_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    shares = iid_partition(DATA, 2, True, str(tmp_path))
    assert len(shares) == 2
    assert "pip install matplotlib" in caplog.text


@pytest.mark.parametrize("filename", ["who.docx", "a/file/that/is/below/a/file.png"])
def test_a_picture_that_can_not_be_written_is_a_warning(
    tmp_path: Path, filename: str, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "a").touch()
    assert len(iid_partition(DATA, 2, True, str(tmp_path), filename)) == 2
    assert "can't be written" in caplog.text
