"""Encrypted payloads: what comes back, and what is found out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.payload import sealing
from appfl_gc.payload.sealing import FRAME, Sealed, new_key, sealed_size, unseal, unsealed_size
from appfl_gc.protocol.errors import TransferError

KEY = bytes(range(32))
START, TAG = 40, 16


@dataclass
class Payload:
    data: bytes
    pieces: tuple[int, ...] = ()
    codec: str = "packed-1"

    @property
    def size(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[memoryview]:
        rest = memoryview(self.data)
        for piece in self.pieces:
            yield rest[:piece]
            rest = rest[piece:]
        yield rest


def sealed(data: bytes, key: bytes = KEY, pieces: tuple[int, ...] = ()) -> bytearray:
    return bytearray(b"".join(Sealed(Payload(data, pieces), key).chunks()))


def opened(payload: bytes | bytearray, key: bytes = KEY) -> bytes:
    out = bytearray(unsealed_size(len(payload)))
    unseal(memoryview(payload), key, memoryview(out))
    return bytes(out)


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sealing, "FRAME", 1000)
    return 1000


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME])
def test_there_and_back(size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    payload = Sealed(Payload(data[:size]), KEY)
    assert payload.codec == "packed-1+sealed-1"
    assert sum(map(len, payload.chunks())) == payload.size == sealed_size(size)
    assert opened(b"".join(payload.chunks())) == data[:size]


@settings(max_examples=100, deadline=None)
@given(size=st.integers(0, 5000), pieces=st.lists(st.integers(0, 2500), max_size=6))
def test_however_the_payload_comes_in_chunks(size: int, pieces: list[int]) -> None:
    data = bytes(number * 7 % 256 for number in range(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealing, "FRAME", 1000)
        assert unsealed_size(sealed_size(size)) == size
        assert opened(sealed(data, pieces=tuple(pieces))) == data


def test_reading_twice_gives_the_same_bytes_and_another_object_others() -> None:
    payload = Sealed(Payload(b"weights" * 100), KEY)
    first = b"".join(payload.chunks())
    assert first == b"".join(payload.chunks())
    other = sealed(b"weights" * 100)
    assert first[START:] != other[START:]


def test_nothing_of_the_payload_or_the_key_can_be_seen() -> None:
    payload = Sealed(Payload(b"weights" * 1000), KEY)
    assert b"weights" not in b"".join(payload.chunks())
    assert KEY.hex() not in repr(vars(payload)) and repr(KEY) not in repr(vars(payload))
    assert len({new_key() for _ in range(10)}) == 10


def test_another_key_is_said() -> None:
    with pytest.raises(TransferError, match="another key, or altered"):
        opened(sealed(b"weights" * 100), new_key())


@pytest.mark.parametrize("place", [0, 7, 8, 39, 40, 1039, 1040, 1055, 1056, -17, -1])
def test_every_altered_byte_is_found_out(place: int, small_frames: int) -> None:
    payload = sealed(bytes(2 * small_frames + 500))
    payload[place] ^= 1
    with pytest.raises(TransferError):
        opened(payload)


def frames_of(payload: bytearray, frame: int) -> list[bytes]:
    step = frame + TAG
    return [bytes(payload[start : start + step]) for start in range(START, len(payload), step)]


def test_frames_left_out_swapped_repeated_or_taken_from_elsewhere_are_found_out(small_frames: int) -> None:
    data = bytes(4 * small_frames)
    payload = sealed(data)
    head, (a, b, c, d) = bytes(payload[:START]), frames_of(payload, small_frames)
    w, x, y, z = frames_of(sealed(data), small_frames)
    assert opened(head + a + b + c + d) == data
    for frames in (
        [a, b, c],
        [b, c, d],
        [a, c, d],
        [a, c, b, d],
        [a, b, b, d],
        [a, b, c, c, d],
        [a, b, c, d, d],
        [a, x, c, d],
        [a, b, c, z],
        [w, x, y, z],
        [],
    ):
        with pytest.raises(TransferError):
            opened(head + b"".join(frames))


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 500, 515, 516, 517, 1532])
def test_a_payload_cut_off_is_found_out(cut: int, small_frames: int) -> None:
    payload = sealed(bytes(2 * small_frames + 500))
    with pytest.raises(TransferError):
        opened(payload[:-cut])


@pytest.mark.parametrize("size", [-5, 0, 39, 40, 55, START + FRAME + TAG + 1, START + FRAME + 2 * TAG])
def test_sizes_that_no_sealed_payload_has_are_refused(size: int) -> None:
    with pytest.raises(TransferError, match="impossible"):
        unsealed_size(size)


def test_plain_bytes_are_no_sealed_payload() -> None:
    with pytest.raises(TransferError, match="not encrypted"):
        opened(bytes(1000))


def test_keys_and_room_of_another_size_are_mistakes_of_the_caller() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealed(Payload(b""), b"short")
    with pytest.raises(ValueError, match="room for 3"):
        unseal(memoryview(sealed(b"1234")), KEY, memoryview(bytearray(3)))


def test_a_payload_of_another_size_than_it_says_is_not_sealed() -> None:
    class Liar(Payload):
        @property
        def size(self) -> int:
            return 10

    with pytest.raises(TransferError, match="another number of bytes"):
        list(Sealed(Liar(b"123"), KEY).chunks())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(TransferError):
        opened(b"APPFLGCS" + data)
