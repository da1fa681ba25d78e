"""What lies between tensors and a store: compression, then encryption, as codecs by name.

A payload's codec is ``safetensors-1`` (see ``codec``) or ``packed-1`` (see ``compression``), followed by
``+sealed-1`` where it is encrypted (see ``sealing``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from appfl_gc.payload.codec import CODEC, Encoding, Layout, check_header
from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.files import map_shared, nameless_file
from appfl_gc.protocol.compression import CompressionSettings
from appfl_gc.protocol.errors import UpdateRefusedError
from appfl_gc.protocol.reference import PACKED, SEALED


@dataclass(frozen=True)
class Coding:
    """How one party's payloads are encoded.

    Attributes:
        compression: how tensors are compressed; None: not at all.
        key: 32 bytes that encrypt payloads in a store of others; None: they are not encrypted.
    """

    compression: CompressionSettings | None = None
    key: bytes | None = field(default=None, repr=False)


PLAIN = Coding()


def compressed(encoding: Encoding, coding: Coding, directory: Path | None = None) -> Encoded:
    """``encoding``, compressed if ``coding`` says so.

    Args:
        encoding: the tensors.
        coding: of the sender.
        directory: where compressed bytes wait; None for the system's temporary directory.
    """
    if coding.compression is None:
        return encoding
    from appfl_gc.payload.compression.packing import pack

    return pack(encoding, coding.compression, directory)


def sealed(payload: Encoded, coding: Coding) -> Encoded:
    """``payload``, encrypted if ``coding`` has a key."""
    if coding.key is None:
        return payload
    from appfl_gc.payload.sealing import Sealed

    return Sealed(payload, coding.key)


def largest(layout: Layout, coding: Coding) -> int:
    """The most bytes that an encoded payload of ``layout`` may have."""
    size = layout.size
    if coding.compression is not None:
        from appfl_gc.payload.compression.packing import largest_packed

        size = max(size, largest_packed(layout))
    if coding.key is not None:
        from appfl_gc.payload.sealing import sealed_size

        size = sealed_size(size)
    return size


def check_codec(codec: str, coding: Coding) -> None:
    """Raise ``UpdateRefusedError`` unless ``codec`` is one that a sender with ``coding`` uses.

    In a store that is not encrypted, or inside a message, a payload is never sealed; so both are fine with a key.
    """
    plain = {CODEC} if coding.compression is None else {CODEC, PACKED}
    expected = plain | {name + SEALED for name in plain if coding.key is not None}
    if codec not in expected:
        raise UpdateRefusedError(
            f"The payload is encoded as {codec!r}; expected {' or '.join(map(repr, sorted(expected)))}."
        )


def decode_into(
    codec: str,
    payload: memoryview,
    layout: Layout,
    out: memoryview,
    coding: Coding,
    directory: Path | None = None,
) -> None:
    """Decode a payload whose checksum is verified. Nothing is executed.

    Args:
        codec: as its reference says.
        payload: its bytes.
        layout: what it must hold.
        out: ``layout.size`` bytes, to be written.
        coding: with the key of a sealed payload.
        directory: where an opened payload lies for a while; None for the system's temporary directory.

    Raises:
        UpdateRefusedError: if the payload does not hold what ``layout`` says.
        TransferError: if it was encrypted with another key, or altered.
    """
    check_codec(codec, coding)
    if coding.key is not None and codec.endswith(SEALED):
        from appfl_gc.payload.sealing import unseal, unsealed_size

        size, inner = unsealed_size(len(payload)), codec.removesuffix(SEALED)
        if size == 0 or (inner == CODEC and size != layout.size):
            raise UpdateRefusedError(f"The encrypted payload holds {size:,} bytes; expected {layout.size:,}.")
        with nameless_file(size, directory, reserve=True) as file:
            opened = map_shared(file.fileno(), size)
            unseal(payload, coding.key, opened)
            decode_into(inner, opened, layout, out, Coding(coding.compression), directory)
        return
    if codec == CODEC:
        check_header(payload, layout)
        out[:] = payload
        return
    from appfl_gc.payload.compression.unpacking import unpack_into

    # With the settings: what was not asked for is not decoded.
    unpack_into(payload, layout, out, coding.compression)
