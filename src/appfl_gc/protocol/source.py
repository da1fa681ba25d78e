"""User source files that a call names by hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from appfl_gc.protocol.wire import Json, as_key, as_object

KINDS = ("model", "loss", "metric", "trainer", "dataset", "aggregator", "scheduler")


@dataclass(frozen=True)
class Source:
    """A Python file of the user, or the name of something that the site has itself.

    Attributes:
        kind: what it is for, one of ``KINDS``.
        name: class or function in the file; "" takes the last one of the fitting sort. With ``text`` None it
            is a name in the site's policy file and no code travels.
        filename: the file's name as the user knows it, for messages.
        text: the file's text, or None.
    """

    kind: str
    name: str
    filename: str = ""
    text: str | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, hexadecimal; "" where no code travels."""
        return "" if self.text is None else hashlib.sha256(self.text.encode()).hexdigest()

    def to_json(self) -> dict[str, Json]:
        """The JSON form."""
        return {"kind": self.kind, "name": self.name, "filename": self.filename, "text": self.text}

    @classmethod
    def from_json(cls, value: Json) -> Source:
        """Parse the JSON form; raises ``WireError``."""
        fields = as_object(value, "A source")
        text = fields.get("text")
        return cls(
            as_key(fields.get("kind"), "A source's kind", 50),
            as_key(fields.get("name"), "A source's name"),
            as_key(fields.get("filename"), "A source's file name", 1000),
            text if isinstance(text, str) else None,
        )
