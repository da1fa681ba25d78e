"""Encryption of payloads for stores that the federation does not trust: AES-256-GCM in frames.

A sealed payload is a magic number, a random salt of 32 bytes, then frames of ``FRAME`` bytes (the last one may be
shorter, and is empty only where the payload is) with a tag of 16 bytes each. The salt makes a key of the object's
own out of the run's key (HKDF with SHA-256, RFC 5869), so that a frame's number and a mark of the last frame are
nonce enough: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and
its Nonce-Reuse Misuse-Resistance", 2015). Frames that are altered, left out, put in another order, cut off at the
end or taken from another object are found out before their bytes are used.

A payload must give the same bytes whenever it is read: frames are encrypted anew each time.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

from appfl_gc.payload.encoded import Encoded
from appfl_gc.protocol.errors import TransferError, VersionError
from appfl_gc.protocol.reference import SEALED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
FRAME = 1 << 20

_MAGIC = b"APPFLGCS"
_SALT_BYTES = 32
_TAG_BYTES = 16
_START = len(_MAGIC) + _SALT_BYTES
_PURPOSE = b"appfl_gc payload sealed-1"


def new_key() -> bytes:
    """A random key for a run."""
    return secrets.token_bytes(KEY_BYTES)


def sealed_size(size: int) -> int:
    """Bytes of a payload of ``size`` bytes when it is sealed."""
    return _START + size + _TAG_BYTES * max(1, -(-size // FRAME))


def unsealed_size(size: int) -> int:
    """Bytes of the payload in a sealed one of ``size`` bytes; raises ``TransferError`` if there is no such size."""
    body = size - _START
    frames = -(-body // (FRAME + _TAG_BYTES))
    plain = body - _TAG_BYTES * frames
    if frames < 1 or plain < 0 or sealed_size(plain) != size:
        raise TransferError(f"A payload of {size:,} bytes is no sealed payload: its size is impossible.")
    return plain


class Sealed:
    """A payload, encrypted as it is read (an ``Encoded``). Memory: a few frames.

    Args:
        payload: what to encrypt; must not change between two readings.
        key: ``KEY_BYTES`` bytes.

    Raises:
        ValueError: if the key has another length.
        VersionError: if the package ``cryptography`` is not installed.
    """

    def __init__(self, payload: Encoded, key: bytes) -> None:
        self._payload = payload
        self._salt = secrets.token_bytes(_SALT_BYTES)
        self._cipher = _cipher(key, self._salt)

    @property
    def codec(self) -> str:
        """See ``Encoded.codec``."""
        return self._payload.codec + SEALED

    @property
    def size(self) -> int:
        """See ``Encoded.size``."""
        return sealed_size(self._payload.size)

    def chunks(self) -> Iterator[memoryview]:
        """See ``Encoded.chunks``; a frame at a time."""
        yield memoryview(_MAGIC + self._salt)
        count = max(1, -(-self._payload.size // FRAME))
        for number, frame in enumerate(_frames(self._payload)):
            nonce = _nonce(number, last=number == count - 1)
            yield memoryview(self._cipher.encrypt(nonce, frame, None))


def unseal(payload: memoryview, key: bytes, out: memoryview) -> None:
    """Decrypt a sealed payload in place.

    Args:
        payload: its bytes.
        key: with which it was sealed.
        out: ``unsealed_size(len(payload))`` bytes, writable.

    Raises:
        TransferError: if it was sealed with another key, or is not as it was sealed; ``out`` then holds nothing
            but frames that are as they were sealed, so must not be used.
        ValueError: if ``key`` or ``out`` has another length.
        VersionError: if the package ``cryptography`` is not installed.
    """
    size = unsealed_size(len(payload))
    if len(out) != size:
        raise ValueError(f"The payload has {size} bytes, and there is room for {len(out)}.")
    if payload[: len(_MAGIC)] != _MAGIC:
        raise TransferError("The payload is not encrypted as this version does it.")
    cipher = _cipher(key, bytes(payload[len(_MAGIC) : _START]))
    from cryptography.exceptions import InvalidTag

    count = max(1, -(-size // FRAME))
    for number in range(count):
        start = _START + number * (FRAME + _TAG_BYTES)
        frame = payload[start : start + FRAME + _TAG_BYTES]
        try:
            plain = cipher.decrypt(_nonce(number, last=number == count - 1), frame, None)
        except InvalidTag:
            raise TransferError(
                f"Part {number + 1} of {count} of an encrypted payload cannot be decrypted: it was encrypted with "
                "another key, or altered.",
                "Every party of a run gets its key with its first call; the store may have altered the object.",
            ) from None
        out[number * FRAME : number * FRAME + len(plain)] = plain


def _frames(payload: Encoded) -> Iterator[memoryview]:
    """The payload in ``FRAME`` bytes each, slices of its chunks where possible; one empty frame for no bytes."""
    left = payload.size
    if not left:
        yield memoryview(b"")
    kept = bytearray()
    for chunk in payload.chunks():
        rest = chunk.cast("B")
        left -= len(rest)
        while rest:
            if not kept and len(rest) >= FRAME:
                yield rest[:FRAME]
                rest = rest[FRAME:]
                continue
            room = FRAME - len(kept)
            kept += rest[:room]
            rest = rest[room:]
            if len(kept) == FRAME:
                yield memoryview(kept)
                kept = bytearray()
    if kept:
        yield memoryview(kept)
    if left:
        raise TransferError("A payload has another number of bytes than it said.")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError(f"A key has {KEY_BYTES} bytes.")
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise VersionError(
            f"The package cryptography, which encrypts payloads, cannot be imported here: {error}.",
            "Run in the environment of this process: pip install cryptography",
        ) from None
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, _PURPOSE).derive(key))
