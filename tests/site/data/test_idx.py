"""Reading idx files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.site.data.idx import read_idx


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 5)])
def test_an_array_is_read_packed_or_not(
    tmp_path: Path, shape: tuple[int, ...], idx_bytes: Callable[[np.ndarray], bytes]
) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "plain").write_bytes(idx_bytes(array))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx_bytes(array)))
    assert np.array_equal(read_idx(tmp_path / "plain"), array)
    assert np.array_equal(read_idx(tmp_path / "packed.gz"), array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "doesn't begin"),
        (b"<html>not found</html>", "doesn't begin"),
        (b"\0\0\x08\x01\0\0\0\x09" + bytes(8), r"8 values for the shape \[9\]"),
        (b"\0\0\x08\x01\0\0\0\x09" + bytes(10), r"10 values for the shape \[9\]"),
        (b"\0\0\x08\x03\0\0", "not a whole idx file"),
    ],
)
def test_a_file_that_is_no_whole_idx_file_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserCodeError, match=words) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"\0\0\x08\x01" * 50, mtime=0)[:-12]])
def test_a_broken_archive_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(UserCodeError, match="can't be read") as raised:
        read_idx(path)
    assert str(path) in str(raised.value)
