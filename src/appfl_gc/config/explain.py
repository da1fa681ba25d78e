"""Where every value of the merged configuration comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from appfl_gc.config.document import KeyPath, show_key
from appfl_gc.config.merging import Layered
from appfl_gc.config.schema.block import Block
from appfl_gc.protocol.redaction import redact
from appfl_gc.protocol.wire import Json

DEFAULT = "default"


@dataclass(frozen=True)
class Explained:
    """One value: key, value (secrets redacted) and ``file:line``, ``default``, ``command line`` or an option."""

    key: str
    value: Json
    origin: str


def explain(block: Layered, typed: Block) -> list[Explained]:
    """Every value of one merged block with its defaults, in the order of the schema."""
    safe = redact(typed.plain())
    return [
        Explained(show_key(path), value, str(found[0]) if (found := block.origin(path)) else DEFAULT)
        for path, value in _leaves(safe, ())
    ]


def explain_all(views: Iterable[tuple[str, Layered, Block]]) -> dict[str, list[Explained]]:
    """``explain`` for each view of an examination, by its title."""
    return {title: explain(block, typed) for title, block, typed in views}


def as_text(title: str, rows: Sequence[Explained]) -> str:
    """One block as lines ``key = value   origin`` under its title."""
    left = [f"  {row.key} = {_short(row.value)}" for row in rows]
    width = max((len(text) for text in left), default=0)
    lines = [f"{text:<{width}}  {row.origin}" for text, row in zip(left, rows, strict=True)]
    return "\n".join([f"{title}:", *lines])


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Json]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*path, name))
    else:
        yield path, value


def _short(value: Json) -> str:
    text = "{}" if value == {} else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
