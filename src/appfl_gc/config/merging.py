"""One participant's configuration: blocks of the files laid over each other, and where each value is from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from appfl_gc.config.document import Document, KeyPath, Mark, show_key


def merge(under: Any, over: Any) -> Any:
    """``over`` laid over ``under``, as ``OmegaConf.merge`` does it: blocks key by key, all else as a whole.

    The result shares no dictionary or list with its arguments.
    """
    if isinstance(over, dict):
        base = under if isinstance(under, dict) else {}
        result = {name: _copy(item) for name, item in base.items() if name not in over}
        # Keys keep the order of the block below; new ones follow.
        merged = {name: merge(base.get(name), over[name]) for name in over}
        return {name: merged.pop(name) if name in merged else result[name] for name in base} | merged
    return _copy(over)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


@dataclass
class Layered:
    """A merged block and its layers.

    Attributes:
        tree: the merged values; this object's own.
        layers: the blocks that were merged, as document and path, the winning one first.
        set_by: keys that something else than a file has set, and what.
    """

    tree: dict[str, Any]
    layers: tuple[tuple[Document, KeyPath], ...]
    set_by: dict[KeyPath, Mark] = field(default_factory=dict)
    _laid_over: dict[str | int, tuple[Document, KeyPath]] = field(default_factory=dict)

    @classmethod
    def of(cls, *layers: tuple[Document, KeyPath]) -> Layered:
        """Merge blocks; the first one wins."""
        tree: dict[str, Any] = {}
        for document, path in reversed(layers):
            block = document.get(path)
            if isinstance(block, dict):
                tree = merge(tree, block)
        return cls(tree, layers)

    def lay_over(self, key: str, block: dict[str, Any], layer: tuple[Document, KeyPath]) -> None:
        """Lay one more block over ``key``; ``layer`` is where a ``key`` of the same name was written."""
        self.tree[key] = merge(self.tree.get(key), block)
        self._laid_over[key] = layer

    def origin(self, path: KeyPath) -> tuple[Mark, KeyPath] | None:
        """Where the value at ``path`` was written and its path there; None if it was not written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.set_by:
                return self.set_by[path[:length]], path
        for document, prefix in self._layers_of(path):
            if prefix + path in document.marks:
                return document.marks[prefix + path], prefix + path
            # An alias or the command line may have brought a whole block under one mark.
            if document.get(prefix + path) is not None:
                return document.mark(prefix + path), prefix + path
        return None

    def place(self, path: KeyPath) -> tuple[Mark, str]:
        """Where to point for ``path`` (the value, else the block that lacks it), and the key as people write it."""
        for length in range(len(path), 0, -1):
            layers = reversed(self._layers_of(path))
            if length == len(path):
                found = self.origin(path)
                if found:
                    return found[0], show_key(found[1])
                continue
            for document, prefix in layers:
                if prefix + path[:length] in document.marks:
                    return document.marks[prefix + path[:length]], show_key(prefix + path)
        document, prefix = self.layers[0]
        return document.mark(prefix), show_key(prefix + path)

    def _layers_of(self, path: KeyPath) -> tuple[tuple[Document, KeyPath], ...]:
        over = self._laid_over.get(path[0]) if path else None
        return (over, *self.layers) if over else self.layers

    def set(self, path: KeyPath, value: Any, by: Mark) -> None:
        """Set one value and say what did; blocks on the way are made."""
        block = self.tree
        for part in path[:-1]:
            inner = block.get(str(part))
            if not isinstance(inner, dict):
                inner = block[str(part)] = {}
            block = inner
        block[str(path[-1])] = value
        self.set_by[path] = by

    def get(self, path: KeyPath) -> Any:
        """The value at ``path``, or None."""
        value: Any = self.tree
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        return value


def has_interpolation(value: Any) -> bool:
    """Whether a text anywhere in ``value`` has ``${``."""
    if isinstance(value, dict):
        return any(has_interpolation(item) for item in value.values())
    if isinstance(value, list):
        return any(has_interpolation(item) for item in value)
    return isinstance(value, str) and "${" in value
