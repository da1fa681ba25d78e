"""Changes from the command line: ``server_configs.num_global_epochs=3``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from appfl_gc.config.diagnostic import ConfigError
from appfl_gc.config.document import COMMAND_LINE, Document, KeyPath, Mark, parse_value, show_key
from appfl_gc.config.findings import Findings, did_you_mean

ROOTS = ("server_configs", "client_configs", "clients")
PART = re.compile(r"\.?([^.\[\]=]+)|\[(\d+)\]")


def apply_overrides(
    overrides: Sequence[str], server: Document, clients: Document, findings: Findings
) -> None:
    """Set the values that ``KEY=VALUE`` texts name in the two documents. ``VALUE`` is YAML.

    List items are written ``clients[0]`` or ``clients.0``.
    """
    for text in overrides:
        mark = Mark(COMMAND_LINE)
        name, equals, value_text = text.partition("=")
        path = _path(name.strip())
        if not equals or not path:
            findings.error(
                f"{text!r} is not of the form KEY=VALUE.", mark, hint="Such as server_configs.device=cpu."
            )
            continue
        if path[0] not in ROOTS:
            hint = did_you_mean(str(path[0]), ROOTS) or f"A key begins with {', '.join(ROOTS)}."
            findings.error(f"There is no block `{path[0]}`.", mark, name, hint)
            continue
        try:
            value = parse_value(value_text)
        except ConfigError as error:
            findings.error(f"The value is not YAML: {error.diagnostics[0].message}", mark, name)
            continue
        problem = _set(clients if path[0] == "clients" else server, path, value)
        if problem:
            findings.error(problem, mark, name)


def _path(name: str) -> KeyPath:
    parts: list[str | int] = []
    position = 0
    while position < len(name):
        match = PART.match(name, position)
        if match is None:
            return ()
        key, index = match.groups()
        parts.append(int(index) if index is not None else int(key) if key.isdigit() else key)
        position = match.end()
    return tuple(parts)


def _set(document: Document, path: KeyPath, value: Any) -> str:
    """Set one value; the sentence that says why not, or ""."""
    holder: Any = document.tree
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(holder, list):
            if not isinstance(part, int) or part >= len(holder):
                return f"`{show_key(path[:depth])}` is a list of {len(holder)}; it has no item {part}."
        elif isinstance(holder, dict):
            part = str(part)
            if not last and holder.get(part) is None:
                holder[part] = {}
                document.marks[path[: depth + 1]] = Mark(COMMAND_LINE)
        else:
            return f"`{show_key(path[:depth])}` is a value, not a block of keys."
        if last:
            holder[part] = value
        else:
            holder = holder[part]
    for old in [old for old in document.marks if old[: len(path)] == path]:
        del document.marks[old]
    document.marks[path] = Mark(COMMAND_LINE)
    return ""
