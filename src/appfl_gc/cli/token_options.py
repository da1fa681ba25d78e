"""``--compute_token`` and ``--openid_token``: names of where a token is, never the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def token_options(command: F) -> F:
    """Add both options to a click command. A value that names nothing is refused and not repeated."""
    compute = _option("compute", "a token for Globus Compute; a login is better: it is renewed.")
    openid = _option("openid", "a token for Globus Auth, which tells whose the other is.")
    return compute(openid(command))


def _option(kind: str, help_text: str) -> Callable[[F], F]:
    return click.option(
        f"--{kind}_token",
        f"--{kind}-token",
        f"{kind}_token",
        metavar="NAME",
        callback=_named,
        help=f"Environment variable, or file of mode 0600, with {help_text}",
    )


def _named(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        from appfl_gc.control.globus_compute.identity.token_source import TokenSource

        TokenSource.parse(f"--{parameter.name}", value)
    return value
