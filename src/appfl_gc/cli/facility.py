"""``appfl-gc facility``: what is known of facilities, ready to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping

import click

from appfl_gc.cli.program import Program
from appfl_gc.hpc.facility import Facility, SharedEndpoint, all_facilities, load_facility, shared_endpoint
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json


@click.group("facility", context_settings={"help_option_names": ["-h", "--help"]})
def facility() -> None:
    """Show what is known of facilities: defaults for endpoints, and endpoints that they run themselves."""


@facility.command("list", cls=Program)
def list_facilities() -> None:
    """List facilities for `endpoint configure --facility`, and endpoints that facilities run."""
    facilities = list(all_facilities())
    click.echo("For `appfl-gc endpoint configure NAME --facility ...`:")
    for entry in facilities:
        click.echo(f"  {entry.name:<12} {entry.title} ({entry.described_as})")
    click.echo("Run by the facility, for `endpoint_id` and `user_endpoint_config` of a client:")
    for entry in facilities:
        for endpoint in entry.shared:
            click.echo(f"  {endpoint.name:<12} {endpoint.title}, {endpoint.endpoint_id}")
    click.echo("`appfl-gc facility show NAME` prints one with its sources.")


@facility.command("show", cls=Program)
@click.argument("name")
def show(name: str) -> None:
    """Print a facility's defaults, or the ready `clients:` block of an endpoint that it runs."""
    found = shared_endpoint(name)
    if found is not None:
        _show_shared(*found)
        return
    try:
        _show_facility(load_facility(name))
    except UsageError as error:
        names = ", ".join(endpoint.name for entry in all_facilities() for endpoint in entry.shared)
        raise UsageError(error.message, f"{error.hint} Endpoints that facilities run: {names}.") from None


def _show_shared(entry: Facility, endpoint: SharedEndpoint) -> None:
    click.echo(f"# {endpoint.title} ({entry.described_as}). Fill in what is in <angle brackets>, then add")
    click.echo("# train_configs and data_configs.")
    click.echo(f"clients:\n  - endpoint_id: {endpoint.endpoint_id}\n    client_id: {endpoint.name}")
    click.echo("    user_endpoint_config:")
    _lines(endpoint.config, "      ")
    click.echo("\n# Once, in the environment there that worker_init activates:")
    click.echo(f"#   pip install . {' '.join(endpoint.requirements)}    # in a copy of this project")
    click.echo(f"# When jobs are submitted over and over: {endpoint.stop}.")
    click.echo(f"# Output of its jobs: {endpoint.job_logs}.")
    _tell(entry, endpoint.notes)


def _show_facility(entry: Facility) -> None:
    click.echo(f"# {entry.title} ({entry.described_as}).")
    click.echo(
        f"# appfl-gc endpoint configure NAME --facility {entry.name} takes these unless told otherwise:"
    )
    _lines(entry.defaults, "")
    if entry.prelude:
        click.echo("# Before a worker's environment is activated:")
        for line in entry.prelude.splitlines():
            click.echo(f"#   {line}")
    _tell(entry, entry.notes)
    for endpoint in entry.shared:
        click.echo(f"# {endpoint.title}: `appfl-gc facility show {endpoint.name}`.")


def _tell(entry: Facility, notes: tuple[str, ...]) -> None:
    for note in notes:
        click.echo(f"# Note: {note}")
    for source in entry.sources:
        click.echo(f"# Source: {source.url} (read {source.read}): {source.says}.")


def _lines(settings: Mapping[str, Json], indent: str) -> None:
    # JSON is YAML with every text in quotes: 10:00:00 without them is a number.
    for key, value in settings.items():
        click.echo(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}")
