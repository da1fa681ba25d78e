"""Options that the commands of ``appfl-gc endpoint`` share, and how their texts are read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from appfl_gc.hpc.knobs import KNOBS, Kind
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json

Function = TypeVar("Function", bound=Callable[..., Any])

FORMAT = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
"""How a command shows what it found."""


def knob_options(function: Function) -> Function:
    """Give a command one option for each setting of an engine."""
    for knob in reversed(list(KNOBS.values())):
        whole = knob.kind in (Kind.COUNT, Kind.POSITIVE)
        option = click.option(
            f"--{knob.name.replace('_', '-')}", knob.name, type=int if whole else str, help=f"{knob.help}."
        )
        function = option(function)
    return function


def setting(name: str, value: int | str) -> Json:
    """The option's text as the setting's type: a number, names by comma, or shell lines from ``@FILE``."""
    kind = KNOBS[name].kind
    if kind is Kind.ACCELERATORS:
        text = str(value)
        return int(text) if text.isdigit() else [part.strip() for part in text.split(",")]
    if kind in (Kind.SCRIPT, Kind.DIRECTIVES) and str(value).startswith("@"):
        return read(str(value)[1:], name)
    return value


def read(path: str, name: str) -> str:
    """The text of a file, or of standard input for ``-``; raises ``UsageError``."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The file {path} for the setting `{name}` can't be read: {error}.") from None


def pair(text: str, option: str = "--env") -> tuple[str, str]:
    """``NAME=VALUE`` in two; raises ``UsageError``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"`{option}` needs a name, = and a value.")
    return name, value
