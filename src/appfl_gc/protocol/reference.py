"""References to payloads: where the bytes are, how many, and how to know that they are the right ones."""

from __future__ import annotations

from dataclasses import dataclass

from appfl_gc.protocol.wire import Json, WireError, as_count, as_key, as_object

PACKED = "packed-1"
"""``Ref.codec`` of compressed tensors."""
SEALED = "+sealed-1"
"""Follows the codec in ``Ref.codec`` where the payload is encrypted."""
HELD = "outbox"
"""Scheme of an update that the site's outbox holds because no store took it."""


@dataclass(frozen=True)
class Ref:
    """A payload in a store.

    Attributes:
        scheme: the store that holds it (``inline``, ``file`` ...).
        locator: what that store needs to find it; for ``inline`` the bytes themselves in base64.
        size: encoded bytes.
        checksum: ``algorithm:hexadecimal`` over the encoded bytes.
        codec: how the bytes were made from tensors.
    """

    scheme: str
    locator: str
    size: int
    checksum: str
    codec: str

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {
            "scheme": self.scheme,
            "locator": self.locator,
            "size": self.size,
            "checksum": self.checksum,
            "codec": self.codec,
        }

    @classmethod
    def from_json(cls, value: Json) -> Ref:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "A payload reference")
        scheme = as_key(fields.get("scheme"), "A reference's scheme", 50)
        locator = fields.get("locator")
        if not isinstance(locator, str) or (scheme != "inline" and len(locator) > 4000):
            raise WireError("A reference's locator is not text of a fitting length.")
        if not (locator.isascii() if scheme == "inline" else locator.isprintable()):
            raise WireError("A reference's locator is not plain text.")
        size = as_count(fields.get("size"), "A reference's size")
        return cls(
            scheme,
            locator,
            size,
            as_key(fields.get("checksum"), "A reference's checksum", 200),
            as_key(fields.get("codec"), "A reference's codec", 50),
        )
