"""``--set KEY=VALUE``: values on top of the YAML files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """The callback of an option whose values are ``NAME=VALUE``."""
    for value in values:
        key, equals, _ = value.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"'{value}' is not of the form {parameter.metavar}.", ctx, parameter)
    return values


def override_option(command: F) -> F:
    """Add ``--set`` to a click command."""
    option = click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        callback=pairs,
        help="Override a key, such as server_configs.num_global_epochs=2. Repeatable.",
    )
    return option(command)
