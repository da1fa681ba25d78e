"""Write an engine's settings as the agent's template: YAML with Jinja variables that a submitter may set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from appfl_gc.protocol.wire import Json


@dataclass(frozen=True)
class Variable:
    """A setting that the submitter may give.

    Attributes:
        name: the template variable.
        default: what holds when it is not given; None means that the key is left out.
        required: it must be given, and there is no default.
        follows: another variable whose value comes before the default.
    """

    name: str
    default: Json = None
    required: bool = False
    follows: str | None = None


@dataclass(frozen=True)
class Script:
    """Shell lines of the owner, followed by those of the submitter when ``variable`` is a name.

    Attributes:
        lines: the owner's part.
        variable: the template variable with the submitter's part, or None if there is none.
    """

    lines: str
    variable: str | None = None


@dataclass(frozen=True)
class Cases:
    """A mapping whose further keys depend on its ``type``.

    Attributes:
        type: the type's name, fixed or a variable.
        extra: by type, the keys that only this type takes.
    """

    type: str | Variable
    extra: Mapping[str, Tree]


@dataclass(frozen=True)
class IfGiven:
    """A mapping that is there only when the submitter gives one of its variables.

    Attributes:
        variable: the template variable.
        tree: the mapping.
    """

    variable: Variable
    tree: Tree


Node: TypeAlias = "Json | Variable | Script | Cases | IfGiven | Mapping[str, Node]"
Tree: TypeAlias = "Mapping[str, Node]"


def render(tree: Tree, comment: str = "") -> str:
    """The template's text; ``comment`` is shown at its head and left out of what is rendered from it."""
    head = "".join(f"{{# {line.replace('#}', '#')} #}}\n" for line in comment.splitlines())
    return head + "\n".join(_lines(tree, 0)) + "\n"


def variables(tree: Tree) -> dict[str, bool]:
    """The template variables of a tree, each with whether it must be given."""
    found: dict[str, bool] = {}
    for node in tree.values():
        if isinstance(node, Variable):
            found[node.name] = node.required
        elif isinstance(node, Script) and node.variable:
            found[node.variable] = False
        elif isinstance(node, Cases):
            found |= variables({"type": node.type})
            for extra in node.extra.values():
                found |= variables(extra)
        elif isinstance(node, IfGiven):
            found |= variables(node.tree)
        elif isinstance(node, Mapping):
            found |= variables(node)
    return found


def _lines(tree: Tree, indent: int) -> Iterator[str]:
    pad = " " * indent
    for key, node in tree.items():
        if isinstance(node, Cases):
            yield f"{pad}{key}:"
            yield from _case_lines(node, indent + 2)
        elif isinstance(node, IfGiven):
            yield f"{{% if {node.variable.name} is defined %}}"
            yield f"{pad}{key}:"
            yield from _lines(node.tree, indent + 2)
            yield "{% endif %}"
        elif isinstance(node, Mapping):
            yield f"{pad}{key}:"
            yield from _lines(node, indent + 2)
        elif isinstance(node, Script):
            yield f"{pad}{key}: {_script(node, indent + 2)}"
        elif isinstance(node, Variable):
            yield f"{pad}{key}: {_expression(node)}"
        elif node is not None:
            yield f"{pad}{key}: {quoted(node)}"


def _case_lines(cases: Cases, indent: int) -> Iterator[str]:
    yield from _lines({"type": cases.type}, indent)
    if isinstance(cases.type, str):
        yield from _lines(cases.extra.get(cases.type, {}), indent)
        return
    chosen = _inner(cases.type)
    for name, extra in cases.extra.items():
        yield f"{{% if {chosen} == {_jinja_text(json.dumps(name))} %}}"
        yield from _lines(extra, indent)
        yield "{% endif %}"


def quoted(value: Json) -> str:
    """``value`` as YAML that Jinja leaves alone: JSON, with no character pair that opens a Jinja tag."""
    return re.sub(r"\{(?=[{%#])", r"\\u007b", json.dumps(value, ensure_ascii=False))


def _expression(variable: Variable) -> str:
    return f"{{{{ {_inner(variable)} }}}}"


def _inner(variable: Variable) -> str:
    # The agent hands strings over as JSON text, quotes included: a default must look the same.
    if variable.required:
        return variable.name
    default = f"default({_jinja_default(variable.default)})"
    if variable.follows:
        default = f"default({variable.follows} | {default})"
    return f"{variable.name} | {default}"


def _jinja_default(value: Json) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    return _jinja_text(json.dumps(value, ensure_ascii=False))


def _jinja_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def _script(script: Script, indent: int) -> str:
    """A double-quoted scalar, one shell line a line; the submitter's JSON text goes on in the same quotes."""
    pad = " " * indent
    shown = []
    for line in script.lines.splitlines():
        inside = quoted(line)[1:-1]
        # YAML drops the blanks that begin a continuation line unless they are escaped.
        escape = "\\" if inside.startswith(" ") else ""
        shown.append(f"{pad}{escape}{inside}\\n\\")
    rest = "default('\"\"')"
    end = f"{{{{ ({script.variable} | {rest})[1:] }}}}" if script.variable else '"'
    return "\n".join(['"\\', *shown, f"{pad}{end}"])
