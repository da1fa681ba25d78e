"""Payloads cut into parts, and how parts land in a file."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appfl_gc.payload.proxystore.parts import Landing, part_places, split
from appfl_gc.protocol.errors import StorageError, TransferError


@given(st.lists(st.binary(max_size=50), max_size=10), st.integers(1, 40))
def test_parts_are_the_payload_and_both_sides_agree_on_their_sizes(
    chunks: list[bytes], part_bytes: int
) -> None:
    whole = b"".join(chunks)
    parts = [b"".join(part) for part in split(map(memoryview, chunks), part_bytes)]
    assert b"".join(parts) == whole
    places = list(part_places("b", len(whole), part_bytes))
    assert [len(part) for part in parts] == [size for _, _, size in places]
    assert [whole[offset : offset + size] for _, offset, size in places] == parts
    assert [name for name, _, _ in places] == [f"b-{number}" for number in range(len(parts))]


def test_a_claimed_size_does_not_make_endless_work() -> None:
    with pytest.raises(TransferError, match="more than 100,000 parts"):
        list(part_places("b", 1 << 60, 1 << 20))


def test_what_landed_is_reported_and_stays() -> None:
    seen: list[int] = []
    with tempfile.TemporaryFile() as file:
        landing = Landing(file.fileno(), 10, 6, seen.append)
        landing.write(memoryview(b"abcd"))
        assert landing.left == 2
        with pytest.raises(TransferError, match="more bytes"):
            landing.write(memoryview(b"xyz"))
        landing.write(memoryview(b"ef"))
        assert os.pread(file.fileno(), 100, 10) == b"abcdef"
    assert seen == [14, 16]


def test_a_file_that_takes_no_more_is_named_as_this_machine_s(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        landing = Landing(file.fileno(), 0, 100_000, lambda _: None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(StorageError) as caught:
                landing.write(memoryview(bytes(100_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    where = f"{tmp_path} on the machine {socket.gethostname()}"
    assert f"can't be written into {where}: a limit on the size" in caught.value.message
