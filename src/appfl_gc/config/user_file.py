"""What a user's Python file defines, read by ``ast`` only: the file is never imported or run here."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """What a function can be given by keyword.

    Attributes:
        names: parameters that may be given by keyword, without ``self`` for ``__init__``.
        required: those without a default.
        positional: number of parameters that may be given by position; None for any number.
        open: whether it takes ``**kwargs``.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    positional: int | None
    open: bool


@dataclass(frozen=True)
class Definition:
    """A function or class at the top level. ``signature`` is None where it cannot be told from the file."""

    name: str
    line: int
    is_class: bool
    signature: Signature | None


@dataclass(frozen=True)
class ImportedName:
    """One imported name: ``module`` alone, or ``name`` from it. ``level`` counts leading dots."""

    module: str
    name: str
    line: int
    level: int


@dataclass(frozen=True)
class UserFile:
    """What a file defines and imports.

    Attributes:
        definitions: functions and classes at the top level, in order, the last of each name.
        bound: all other names at the top level: imported or assigned.
        star: whether names come from ``import *``, so that nothing can be said to be missing.
        imports: every import anywhere in the file.
    """

    definitions: tuple[Definition, ...]
    bound: frozenset[str]
    star: bool
    imports: tuple[ImportedName, ...]

    def find(self, name: str) -> Definition | None:
        """The definition called ``name``."""
        return next((found for found in self.definitions if found.name == name), None)

    def last(self, *, is_class: bool) -> Definition | None:
        """The last class, or the last function, of the file."""
        return next((found for found in reversed(self.definitions) if found.is_class is is_class), None)


def read_user_file(text: str) -> UserFile:
    """Parse a file's text.

    Raises:
        SyntaxError: if it is not Python of the version that runs here; has the line in ``lineno``.
    """
    try:
        tree = ast.parse(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or type(error).__name__) from None
    definitions: dict[str, Definition] = {}
    bound: set[str] = set()
    classes: dict[str, ast.ClassDef] = {}
    for statement in _top_level(tree.body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            signature = None if statement.decorator_list else _signature(statement.args, skip=0)
            definitions.pop(statement.name, None)
            definitions[statement.name] = Definition(statement.name, statement.lineno, False, signature)
        elif isinstance(statement, ast.ClassDef):
            classes[statement.name] = statement
            definitions.pop(statement.name, None)
            definitions[statement.name] = Definition(
                statement.name, statement.lineno, True, _class_signature(statement, classes)
            )
        else:
            bound.update(_bound_names(statement))
    imports = tuple(_imports(tree))
    return UserFile(tuple(definitions.values()), frozenset(bound), "*" in bound, imports)


def unfit_arguments(signature: Signature, given: Iterable[str]) -> tuple[list[str], list[str]]:
    """Keywords that the function does not take, and parameters that it needs and does not get."""
    names = list(given)
    unknown = [] if signature.open else [name for name in names if name not in signature.names]
    missing = [name for name in signature.required if name not in names or name not in signature.names]
    return unknown, missing


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, also inside ``if``, ``try`` and ``with``."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            for name in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level(handler.body)


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    yield node.id


def _signature(arguments: ast.arguments, skip: int) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args][skip:]
    with_default = len(arguments.defaults)
    needed = positional[: len(positional) - with_default] if with_default else positional
    by_keyword = [argument.arg for argument in positional if argument not in arguments.posonlyargs]
    keyword_only = [argument.arg for argument in arguments.kwonlyargs]
    keyword_needed = [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    return Signature(
        (*by_keyword, *keyword_only),
        (*(argument.arg for argument in needed), *keyword_needed),
        None if arguments.vararg else len(positional),
        arguments.kwarg is not None,
    )


def _class_signature(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Signature | None:
    """The signature of ``__init__``, also of a base class in the same file; None where neither shows it."""
    seen: set[str] = set()
    current: ast.ClassDef | None = node
    while current is not None and current.name not in seen:
        seen.add(current.name)
        if current.decorator_list:
            return None
        for statement in current.body:
            if isinstance(statement, ast.FunctionDef) and statement.name in {"__init__", "__new__"}:
                return None if statement.decorator_list else _signature(statement.args, skip=1)
        first = current.bases[0] if current.bases else None
        current = classes.get(first.id) if isinstance(first, ast.Name) else None
    return None


def _imports(tree: ast.Module) -> Iterator[ImportedName]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield ImportedName(alias.name, "", node.lineno, 0)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield ImportedName(node.module or "", alias.name, node.lineno, node.level)
