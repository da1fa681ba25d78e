"""``appfl-gc endpoint``: write, check, rewrite and run Globus Compute endpoints of this machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from appfl_gc.cli.endpoint_check import check
from appfl_gc.cli.endpoint_options import FORMAT, knob_options, pair, read, setting
from appfl_gc.cli.program import Program
from appfl_gc.hpc.endpoint.options import COMPUTE_ENGINE, POOL_ENGINE, EndpointOptions


@click.group("endpoint", context_settings={"help_option_names": ["-h", "--help"]})
def endpoint() -> None:
    """Write, check, rewrite and run Globus Compute endpoints of this machine."""


endpoint.add_command(check)


@endpoint.command("configure", cls=Program)
@click.argument("name")
@click.option(
    "--facility", required=True, help="Whose defaults to take; `appfl-gc facility list` names them."
)
@knob_options
@click.option(
    "--engine", type=click.Choice([COMPUTE_ENGINE, POOL_ENGINE]), default=COMPUTE_ENGINE, show_default=True
)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where agents, workers and the site's state write."
)
@click.option("--env", "environment", metavar="NAME=VALUE", multiple=True, help="A variable for workers.")
@click.option("--lock", "locked", metavar="SETTING", multiple=True, help="Submitters can't change it.")
@click.option("--allowed-function", "allowed", metavar="UUID", multiple=True, help="Only these may run.")
@click.option("--heartbeat-seconds", type=int, default=30, show_default=True)
@click.option(
    "--idle-seconds",
    type=int,
    default=3600,
    show_default=True,
    help="How long a user endpoint stays without work; 0 is for ever.",
)
@click.option("--endpoint-id", metavar="UUID", help="Register with this UUID.")
@click.option("--display-name", help="What the service shows.")
@click.option("--contact-email", help="For the service's operators; as root your account by default.")
@click.option("--amqp-port", type=click.Choice(["443", "5671", "5672"]), help="443 where 5671 is blocked.")
@click.option("--multi-user", is_flag=True, help="For administrators: map other people's identities.")
@click.option(
    "--map", "identities", metavar="NAME@INSTITUTION=ACCOUNT", multiple=True, help="Who may use it."
)
@click.option(
    "--prelude", default="", help="Shell lines before this environment is activated; @FILE reads one."
)
@click.option(
    "--proxystore",
    metavar="NAME",
    help="Workers use this ProxyStore endpoint of this machine, past their proxy.",
)
@click.option("--replace", is_flag=True, help="Move an endpoint of this name into a backup first.")
def configure(
    name: str,
    facility: str,
    engine: str,
    directory: Path | None,
    environment: Sequence[str],
    locked: Sequence[str],
    allowed: Sequence[str],
    heartbeat_seconds: int,
    idle_seconds: int,
    endpoint_id: str | None,
    display_name: str | None,
    contact_email: str | None,
    amqp_port: str | None,
    multi_user: bool,
    identities: Sequence[str],
    prelude: str,
    proxystore: str | None,
    replace: bool,
    **knobs: int | str | None,
) -> None:
    """Write a complete endpoint whose workers use this Python environment."""
    from appfl_gc.hpc.endpoint import configure as writer
    from appfl_gc.hpc.endpoint.agent import require_linux

    require_linux()
    given = dict(pair(text) for text in environment)
    direct_hosts: tuple[str, ...] = ()
    if proxystore is not None:
        from appfl_gc.cli.proxystore import for_workers

        shared = for_workers(proxystore, facility)
        direct_hosts, given = shared.hosts, {**shared.environment, **given}
    options = EndpointOptions(
        facility=facility,
        settings={key: setting(key, value) for key, value in knobs.items() if value is not None},
        locked=frozenset(setting.replace("-", "_") for setting in locked),
        engine=engine,
        directory=directory,
        environment=given,
        direct_hosts=direct_hosts,
        heartbeat_seconds=heartbeat_seconds,
        idle_seconds=idle_seconds,
        endpoint_id=endpoint_id,
        display_name=display_name,
        contact_email=contact_email,
        allowed_functions=tuple(allowed),
        amqp_port=None if amqp_port is None else int(amqp_port),
        multi_user=multi_user,
        identities=dict(pair(text, "--map") for text in identities),
        prelude=read(prelude[1:], "prelude") if prelude.startswith("@") else prelude,
    )
    written = writer.configure(name, options, replace=replace)
    if written.backup is not None:
        click.echo(f"The old files are in {written.backup}.")
    click.echo(f"The endpoint {name} is written to {written.directory}:")
    for path in sorted(written.directory.iterdir()):
        click.echo(f"  {path.name}")
    if written.required:
        click.echo(f"Each client must give {' and '.join(written.required)} in its user_endpoint_config.")
    for line in written.review:
        click.echo(line)
    click.echo(f"Next: `appfl-gc endpoint check {name}`, then `appfl-gc endpoint start {name}`.")


@endpoint.command("start", cls=Program)
@click.argument("name")
@click.option(
    "--wait-seconds", type=float, default=60.0, show_default=True, help="Until it must be registered."
)
def start(name: str, wait_seconds: float) -> None:
    """Start the agent in a session of its own and wait until the service has registered it."""
    from appfl_gc.hpc.endpoint import agent

    status = agent.start(name, deadline_seconds=wait_seconds)
    click.echo(f"The endpoint {name} runs (process {status.pid}). In the client file:")
    click.echo(f"  endpoint_id: {status.endpoint_id}")
    click.echo(f"Log: {status.directory / agent.LOG}. It goes on until `appfl-gc endpoint stop {name}`.")


@endpoint.command("stop", cls=Program)
@click.argument("name")
def stop(name: str) -> None:
    """Stop the agent, its user endpoints and whatever they left running here."""
    from appfl_gc.hpc.endpoint import agent

    ended = agent.stop(name)
    if ended:
        click.echo(f"The endpoint {name} has stopped ({len(ended)} process{'es' * (len(ended) > 1)} ended).")
    else:
        click.echo(f"The endpoint {name} was not running.")


@endpoint.command("status", cls=Program)
@click.argument("name")
@FORMAT
def status(name: str, form: str) -> None:
    """Show how the agent is, as far as this machine can tell."""
    from appfl_gc.hpc.endpoint import agent

    found = agent.status(name)
    if form == "json":
        click.echo(json.dumps(_as_json(found), indent=2))
        return
    click.echo(f"{name}: {found.state.value}")
    click.echo(f"  endpoint_id: {found.endpoint_id or 'none yet, it was never registered'}")
    click.echo(f"  directory: {found.directory}")
    if found.processes:
        click.echo(f"  processes: {', '.join(map(str, found.processes))}")
    if found.host and found.state in (agent.State.RUNNING, agent.State.ELSEWHERE):
        click.echo(f"  host: {found.host}")


@endpoint.command("list", cls=Program)
@FORMAT
def list_endpoints(form: str) -> None:
    """List the endpoints that were configured on this machine."""
    from appfl_gc.hpc.endpoint import agent
    from appfl_gc.hpc.endpoint.configure import user_directory

    found = agent.list_endpoints()
    if form == "json":
        click.echo(json.dumps([_as_json(one) for one in found], indent=2))
        return
    for one in found:
        click.echo(f"{one.name:<24} {one.endpoint_id or '-':<36}  {one.state.value}")
    if not found:
        click.echo(f"There are no endpoints in {user_directory()}.")


def _as_json(found: Any) -> dict[str, object]:
    fields = dataclasses.asdict(found)
    return {**fields, "directory": str(found.directory), "state": found.state.name.lower()}


@endpoint.command("migrate", cls=Program)
@click.argument("name_or_file")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where agents, workers and the site's state write.",
)
def migrate(name_or_file: str, directory: Path | None) -> None:
    """Rewrite an older endpoint, by its name or its config.yaml, for today's agent; the old is backed up."""
    from appfl_gc.hpc.endpoint import migrate as rewriter

    done = rewriter.migrate(name_or_file, directory=directory)
    for change in done.changes:
        click.echo(f"- {change}")
    if done.endpoint is None:
        return
    click.echo(f"The endpoint {done.endpoint.name} is written to {done.endpoint.directory}.")
    if done.endpoint.backup is not None:
        click.echo(f"The old files are in {done.endpoint.backup}.")
    if done.endpoint.required:
        click.echo(
            f"Each client must give {' and '.join(done.endpoint.required)} in its user_endpoint_config."
        )
    click.echo(f"Next: `appfl-gc endpoint check {done.endpoint.name}`.")
