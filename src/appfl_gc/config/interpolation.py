"""Resolves ``${...}``. Only configurations that use it import OmegaConf, which takes time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from appfl_gc.config.document import MAX_DEPTH, Document, KeyPath, show_key
from appfl_gc.config.findings import Findings
from appfl_gc.config.merging import Layered, has_interpolation

MAX_RESOLVED = 10_000
"""Values of one merged block after interpolation."""


class Interpolation:
    """Resolves ``${...}`` in merged blocks. An absolute name starts at the root of the two files together."""

    def __init__(self, documents: Iterable[Document], findings: Findings) -> None:
        root: dict[str, Any] = {}
        for document in documents:
            _blank_malformed(document, document.tree, (), findings)
            root.update(document.tree)
        self._config = OmegaConf.create(root)
        self._values = 0

    def resolve(self, block: Layered, findings: Findings) -> None:
        """Replace interpolations by their values; one that fails is an error and is left out."""
        if not has_interpolation(block.tree):
            return
        self._values = 0
        # Under the common root, so that both absolute and relative names find what they name.
        self._config["(merged)"] = block.tree
        block.tree = self._plain(self._config["(merged)"], (), block, findings)
        del self._config["(merged)"]

    def _plain(self, node: Any, path: KeyPath, block: Layered, findings: Findings) -> Any:
        self._values += 1
        if len(path) > MAX_DEPTH or self._values > MAX_RESOLVED:
            mark, key = block.place(path[:2])
            findings.error(
                "The interpolations here contain themselves or stand for too many values.", mark, key
            )
            return None
        if OmegaConf.is_dict(node):
            names: Iterable[Any] = list(node.keys())
        elif OmegaConf.is_list(node):
            names = range(len(node))
        else:
            return node
        values = {}
        for name in names:
            if self._values > MAX_RESOLVED:
                break
            try:
                item = node[name]
            except (OmegaConfBaseException, RecursionError, ValueError) as error:
                mark, key = block.place((*path, name))
                words = str(error).strip().splitlines()
                findings.error(
                    f"The interpolation cannot be resolved: {words[0] if words else 'it loops'}.", mark, key
                )
                continue
            values[name] = self._plain(item, (*path, name), block, findings)
        return values if OmegaConf.is_dict(node) else list(values.values())


def _blank_malformed(document: Document, holder: Any, path: KeyPath, findings: Findings) -> None:
    """Report texts that are no well-formed interpolation and empty them: one of them stops OmegaConf altogether."""
    for name, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        place = (*path, name)
        if isinstance(value, dict | list):
            _blank_malformed(document, value, place, findings)
        elif has_interpolation(value):
            try:
                OmegaConf.create({"value": value})
            except OmegaConfBaseException as error:
                words = str(error).strip().splitlines()[0]
                findings.error(
                    f"This is not an interpolation: {words}.", document.mark(place), show_key(place)
                )
                holder[name] = None
