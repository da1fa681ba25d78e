"""A YAML file as plain values, with the place of every key. Nothing here knows the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from appfl_gc.config.diagnostic import ConfigError, Diagnostic, Severity

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions from the root of a document to a value."""

MAX_BYTES = 20_000_000
MAX_VALUES = 500_000
MAX_DEPTH = 60
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Mark:
    """Where something was written: a file and a line from 1, or the command line."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass
class Document:
    """One YAML file: its values, and the mark of every key and list item.

    The values are this object's own; a spelling of a key may be corrected in place. ``problems`` are errors that
    concern single keys, such as one that is given twice; the rest of the file can still be checked.
    """

    name: str
    path: Path
    tree: dict[str, Any]
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def get(self, path: KeyPath) -> Any:
        """The value at ``path``, or None."""
        value: Any = self.tree
        for part in path:
            if isinstance(value, list) and isinstance(part, int):
                value = value[part] if part < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def mark(self, path: KeyPath) -> Mark:
        """The mark of ``path``, or of the nearest block around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.marks:
                return self.marks[path[:length]]
        return Mark(self.name, None)

    def move(self, old: KeyPath, new: KeyPath) -> None:
        """Move the value at ``old`` to ``new`` with its marks; blocks on the way are made."""
        value = self.get(old[:-1]).pop(old[-1])
        for length in range(1, len(new)):
            if self.get(new[:length]) is None:
                self.get(new[: length - 1])[new[length - 1]] = {}
        self.get(new[:-1])[new[-1]] = value
        moved = {path: mark for path, mark in self.marks.items() if path[: len(old)] == old}
        for path, mark in moved.items():
            del self.marks[path]
            self.marks[new + path[len(old) :]] = mark


def show_key(path: KeyPath) -> str:
    """``path`` as people write it: ``clients[1].train_configs.device``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_document(path: str | Path, such_as: str = "`clients:` or `server_configs:`") -> Document:
    """Read a YAML file whose root is a block of keys.

    Args:
        path: the file.
        such_as: keys that it may have, for whoever gives an empty one.

    Raises:
        ConfigError: if there is no such file, or it is not YAML of that form.
    """
    name = str(path)
    text = _read_text(name, Path(path))
    node = _compose(name, text)
    if node is None or not text.strip():
        raise _error(name, None, "The file is empty.", f"It must have keys such as {such_as}.")
    builder = _Builder(name)
    builder.measure(node)
    tree = builder.value(node, ())
    if not isinstance(tree, dict):
        found = "a list" if isinstance(tree, list) else f"the value {tree!r}"
        raise _error(name, 1, f"The file holds {found} where a block of keys was expected.")
    return Document(name, Path(path), tree, builder.marks, builder.problems)


def parse_value(text: str, name: str = COMMAND_LINE) -> Any:
    """The value of a piece of YAML, as it would be read from a file; raises ``ConfigError``."""
    node = _compose(name, text)
    if node is None:
        return None
    builder = _Builder(name)
    builder.measure(node)
    value = builder.value(node, ())
    if builder.problems:
        raise ConfigError(builder.problems)
    return value


def _error(name: str, line: int | None, message: str, hint: str = "") -> ConfigError:
    return ConfigError([Diagnostic(Severity.ERROR, message, name, line, hint=hint)])


def _read_text(name: str, path: Path) -> str:
    if path.is_dir():
        raise _error(name, None, "This is a directory where a YAML file was expected.", _yaml_files_in(path))
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _error(name, None, f"There is no file {name}.", _yaml_files_in(path.parent)) from None
    except OSError as error:
        raise _error(name, None, f"The file cannot be read: {error.strerror or error}.") from None
    if len(data) > MAX_BYTES:
        raise _error(name, None, f"The file is larger than {MAX_BYTES // 1_000_000} MB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _error(name, line, "The file is not text in UTF-8.", "Save it as UTF-8.") from None


def _yaml_files_in(directory: Path) -> str:
    if not directory.is_dir():
        return ""
    found = sorted(item.name for item in directory.iterdir() if item.suffix in {".yaml", ".yml"})
    return f"YAML files in {directory}: {', '.join(found[:8])}." if found else ""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Resolves scalars as the published loader does: ``1e-3`` is a number and a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and form are PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d[\d_]*\.[\d_]*([eE][-+]?\d+)?|\.\d[\d_]*([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+"
        r"|\.(inf|Inf|INF))$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def _compose(name: str, text: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=_Loader)
    except RecursionError:
        raise _error(name, None, "The file nests too deeply.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        problem = (error.problem or error.context or "it is not YAML").rstrip(".")
        if line is not None and "\t" in _line(text, line):
            raise _error(name, line, "The line has a tab; YAML is indented with spaces.") from None
        raise _error(name, line, f"This is not YAML: {problem}.") from None
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise _error(name, None, f"This is not YAML: {first}.") from None


def _line(text: str, line: int) -> str:
    lines = text.splitlines()
    return lines[line - 1] if line <= len(lines) else ""


class _Builder:
    """Turns a graph of YAML nodes into values of its own, and notes where each key is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[KeyPath, Mark] = {}
        self.problems: list[Diagnostic] = []
        self._scalars = yaml.constructor.SafeConstructor()
        self._sizes: dict[int, int] = {}
        self._open: set[int] = set()

    def measure(self, node: yaml.Node, depth: int = 0) -> int:
        """Values that ``node`` stands for once aliases are written out; refuses loops and explosions."""
        line = node.start_mark.line + 1
        if id(node) in self._open:
            raise _error(
                self.name, line, "The alias stands inside the block that it names.", "Write the block out."
            )
        if depth > MAX_DEPTH:
            raise _error(self.name, line, f"The file nests deeper than {MAX_DEPTH} levels.")
        if id(node) not in self._sizes:
            self._open.add(id(node))
            size = 1 + sum(self.measure(child, depth + 1) for child in _children(node))
            self._open.discard(id(node))
            if size > MAX_VALUES:
                raise _error(self.name, line, f"The aliases here stand for more than {MAX_VALUES:,} values.")
            self._sizes[id(node)] = size
        return self._sizes[id(node)]

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        """The plain value of ``node``, whose place in the document is ``path``."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, child in enumerate(node.value):
                self._note((*path, index), child)
                items.append(self.value(child, (*path, index)))
            return items
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in first_line:
                self._problem(
                    key_node,
                    (*path, key),
                    f"The key is given twice; it stands in line {first_line[key]} already.",
                )
                continue
            first_line[key] = key_node.start_mark.line + 1
            self._note((*path, key), key_node)
            result[key] = self.value(value_node, (*path, key))
        for merged in _merged(node):
            if not isinstance(merged, yaml.MappingNode):
                self._problem(merged, path, "`<<` takes a block of keys or a list of them.")
                continue
            for key_path, value in self._inherited(merged, path, result):
                result[key_path] = value
        return result

    def _inherited(
        self, node: yaml.MappingNode, path: KeyPath, own: dict[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        other = _Builder(self.name)
        values = other._mapping(node, path)
        self.problems.extend(other.problems)
        for key, value in values.items():
            if key not in own:
                depth = len(path) + 1
                self.marks.update({k: m for k, m in other.marks.items() if k[:depth] == (*path, key)})
                yield key, value

    def _key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            if node.tag == "tag:yaml.org,2002:str":
                return str(node.value)
            self._problem(
                node, path, f"The key {node.value} is not text.", f'Put it in quotes: "{node.value}".'
            )
        else:
            self._problem(node, path, "A key must be text.")
        return None

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            value = ...
        if value is None or isinstance(value, bool | int | float | str):
            return value
        self._problem(
            node, path, f"A value with the tag {node.tag} is not supported; use text, numbers and blocks."
        )
        return None

    def _note(self, path: KeyPath, node: yaml.Node) -> None:
        self.marks[path] = Mark(self.name, node.start_mark.line + 1)

    def _problem(self, node: yaml.Node, path: KeyPath, message: str, hint: str = "") -> None:
        line = node.start_mark.line + 1
        self.problems.append(Diagnostic(Severity.ERROR, message, self.name, line, show_key(path), hint))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _merged(node: yaml.MappingNode) -> Iterator[yaml.Node]:
    """The blocks that ``<<`` keys name, the ones that win first."""
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            yield from value_node.value if isinstance(value_node, yaml.SequenceNode) else (value_node,)
