"""``appfl-gc endpoint check``: what stops an endpoint, or makes it slow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from appfl_gc.cli.endpoint_options import FORMAT, pair
from appfl_gc.cli.program import Program
from appfl_gc.hpc.knobs import KNOBS
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json


@click.command("check", cls=Program)
@click.argument("name", required=False)
@click.option("--option", "given", metavar="NAME=VALUE", multiple=True, help="A user_endpoint_config to try.")
@click.option(
    "--round-gap-seconds", type=float, default=600.0, show_default=True, help="Wait between a client's tasks."
)
@click.option("--proxystore", is_flag=True, help="Check a ProxyStore endpoint; NAME may be left out.")
@click.option("--remote", metavar="UUID", help="With --proxystore: another machine's, to try the way to it.")
@click.option(
    "--megabytes",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="With --proxystore: how large an object is moved.",
)
@FORMAT
@click.pass_context
def check(
    ctx: click.Context,
    name: str | None,
    given: Sequence[str],
    round_gap_seconds: float,
    proxystore: bool,
    remote: str | None,
    megabytes: int,
    form: str,
) -> None:
    """Look for what stops an endpoint, or makes it slow; the exit status is 2 if there are errors.

    With --proxystore it moves an object through the ProxyStore endpoint of this machine, and with --remote to another
    endpoint and back, and shows how long it took.
    """
    if proxystore:
        from appfl_gc.cli.proxystore import check_endpoint

        if not check_endpoint(name, remote, megabytes * 1_000_000, form):
            ctx.exit(2)
        return
    if remote is not None:
        raise UsageError("`--remote` needs `--proxystore`.")
    if name is None:
        raise UsageError(
            "`appfl-gc endpoint check` needs the name of an endpoint.", "`appfl-gc endpoint list` shows them."
        )
    from appfl_gc.hpc.endpoint import check as checker

    pairs = dict(pair(text, "--option") for text in given)
    options = {key: _typed(key, value) for key, value in pairs.items()} if pairs else None
    found = checker.check(name, options=options, round_gap_seconds=round_gap_seconds)
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(str(finding))
        if not found:
            click.echo(f"The endpoint {name} is in order.")
    if any(finding.is_error for finding in found):
        ctx.exit(2)


def _typed(name: str, value: str) -> Json:
    return (
        int(value)
        if value.isdigit() and (name not in KNOBS or KNOBS[name].schema["type"] == "integer")
        else value
    )
