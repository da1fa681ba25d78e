"""Files of payloads: all bytes, in pieces that suit the page cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appfl_gc.payload import files
from appfl_gc.payload.files import PIECE, replacing, write_chunks

CHUNKS = [b"h" * 448, b"a" * (PIECE + 5), b"", *(bytes([n % 256]) * 3 for n in range(700)), b"z" * PIECE]


@pytest.mark.parametrize("most", [1, 1000, PIECE])
def test_all_bytes_in_order_whatever_the_system_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    writev = os.writev
    short = lambda fd, parts: writev(fd, [parts[0][:most]])  # noqa: E731
    monkeypatch.setattr(files.os, "writev", short)
    seen: list[bytes] = []
    with replacing(tmp_path / "file") as fd:
        write_chunks(fd, map(memoryview, CHUNKS), lambda part: seen.append(bytes(part)))
    assert (tmp_path / "file").read_bytes() == b"".join(CHUNKS) == b"".join(seen)


def test_pieces_begin_at_multiples_of_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    writev = os.writev

    def watch(fd: int, parts: list[memoryview]) -> int:
        sizes.append(sum(map(len, parts)))
        return writev(fd, parts)

    monkeypatch.setattr(files.os, "writev", watch)
    with replacing(tmp_path / "file") as fd:
        write_chunks(fd, [memoryview(b"h" * 448), memoryview(bytes(3 * PIECE))])
    assert sizes == [PIECE, PIECE, PIECE, 448]


def test_a_block_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "file"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
