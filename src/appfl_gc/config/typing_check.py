"""From a merged block to a typed one: each value checked against the schema, all findings collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from appfl_gc.config.document import KeyPath
from appfl_gc.config.findings import Findings, did_you_mean
from appfl_gc.config.merging import Layered
from appfl_gc.config.schema.block import Block, Status, block_of, freeze, support_of
from appfl_gc.protocol.redaction import shown

BlockT = TypeVar("BlockT", bound=Block)

MISSING = "???"
"""What the files write for a value that the command line must give."""


class TypedCheck:
    """Checks one merged block. ``broken`` holds the paths of refused values, on which later rules stay silent."""

    def __init__(
        self, block: Layered, findings: Findings, keep: Callable[[KeyPath], bool] = lambda _: False
    ) -> None:
        self.block = block
        self.findings = findings
        self.broken: set[KeyPath] = set()
        self._keep = keep

    def typed(self, schema: type[BlockT], path: KeyPath = ()) -> BlockT:
        """The block at ``path`` as ``schema``. Values in error are left at their defaults.

        Undeclared keys are kept only where ``keep(path)`` says so.
        """
        tree = self.block.get(path) if path else self.block.tree
        clean = self._clean(tree if isinstance(tree, dict) else {}, schema, path)
        try:
            return schema.model_validate(clean)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self._report(detail, clean, path)
        for bad in sorted(self.broken, key=len, reverse=True):
            if bad[: len(path)] == path:
                _remove(clean, bad[len(path) :])
        return schema.model_validate(clean)

    def error(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Report an error at ``path`` unless its value was refused already."""
        if not any(path[:length] in self.broken for length in range(1, len(path) + 1)):
            mark, key = self.block.place(path)
            self.findings.error(message, mark, key, hint)

    def warning(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Report a warning at ``path``."""
        mark, key = self.block.place(path)
        self.findings.warning(message, mark, key, hint)

    def note(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Report a note at ``path``."""
        mark, key = self.block.place(path)
        self.findings.note(message, mark, key, hint)

    def _clean(self, tree: dict[str, Any], schema: type[Block], path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in tree.items():
            place = (*path, name)
            field = schema.model_fields.get(name)
            if value is None:
                continue
            if value == MISSING:
                self.error(
                    place, f"The value is left open (`{MISSING}`).", "Give it here or on the command line."
                )
                self.broken.add(place)
                continue
            if field is None:
                if self._keep(path):
                    result[name] = freeze(value)
                continue
            inner = block_of(field)
            if inner is not None and isinstance(value, dict):
                result[name] = self._clean(value, inner, place)
            else:
                result[name] = value
            self._check_support(name, value, schema, place)
        for name, field in schema.model_fields.items():
            if name not in result and support_of(field).required and (*path, name) not in self.broken:
                inner = block_of(field)
                if inner is None:
                    self.error(
                        (*path, name), "The key is missing and must be given.", field.description or ""
                    )
                    self.broken.add((*path, name))
                else:
                    result[name] = self._clean({}, inner, (*path, name))
        return result

    def _check_support(self, name: str, value: Any, schema: type[Block], place: KeyPath) -> None:
        support = support_of(schema.model_fields[name])
        if support.refuses(value):
            self.error(
                place,
                f"`{name}: {shown(name, value)}` is not supported yet. {support.why}",
                "Switch it off or take it out.",
            )
            self.broken.add(place)
        elif support.status in {Status.IGNORED, Status.NEVER} and not support.quiet:
            self.warning(place, f"`{name}` has no effect. {support.why}", "Take it out.")

    def _report(self, detail: ErrorDetails, clean: dict[str, Any], path: KeyPath) -> None:
        # A union adds the name of its member to the location; the value is at the longest part that exists.
        location: KeyPath = ()
        value: Any = clean
        for part in detail["loc"]:
            if isinstance(value, list):
                value = dict(enumerate(value))
            if not isinstance(value, dict) or part not in value:
                break
            value = value[part]
            location = (*location, part)
        place = path + location
        expected, hint = _expected(detail, value)
        self.error(
            place, f"Expected {expected}, found {shown(str(place[-1]) if place else '', value)}.", hint
        )
        self.broken.add(place)


def _expected(detail: ErrorDetails, value: Any) -> tuple[str, str]:
    """What pydantic expected, in words, and a hint."""
    context = detail.get("ctx", {})
    kind = detail["type"]
    if kind == "literal_error":
        names = [name.strip("'") for name in str(context["expected"]).replace(" or ", ", ").split(", ")]
        listed = ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else names[0]
        return f"one of {listed}" if len(names) > 1 else listed, did_you_mean(str(value), names)
    bounds = {
        "greater_than_equal": ("ge", "at least"),
        "greater_than": ("gt", "more than"),
        "less_than_equal": ("le", "at most"),
        "less_than": ("lt", "less than"),
    }
    if kind in bounds:
        limit, words = bounds[kind]
        return f"a number of {words} {context[limit]}", ""
    if kind == "finite_number":
        return "a finite number", ""
    if kind == "string_pattern_mismatch":
        names = ["cpu", "cuda", "cuda:0", "cuda:0,cuda:1", "xpu", "mps", "auto"]
        return f"a device such as {', '.join(names)}", "Did you mean `cuda`?" if "gpu" in str(
            value
        ).lower() else did_you_mean(str(value), names)
    quoted = isinstance(value, str)
    if kind in {"bool_type", "bool_parsing"}:
        return "true or false", "Take the quotes off." if quoted and value.lower() in {
            "true",
            "false",
        } else ""
    if kind in {"int_type", "int_from_float", "int_parsing"}:
        return "a whole number", "Take the quotes off." if quoted and value.isdigit() else ""
    if kind in {"float_type", "float_parsing"}:
        return "a number", ""
    if kind == "string_type":
        return "text", "Put it in quotes." if not isinstance(value, dict | list) else ""
    if kind in {"dict_type", "model_type"}:
        return "a block of keys", ""
    if kind == "list_type":
        return "a list", ""
    return f"something else ({detail['msg']})", ""


def _remove(tree: dict[str, Any], path: KeyPath) -> None:
    holder: Any = tree
    for part in path[:-1]:
        if not isinstance(holder, dict) or part not in holder:
            return
        holder = holder[part]
    if isinstance(holder, dict) and path:
        holder.pop(path[-1], None)
