"""``appfl-gc validate``: check both YAML files without running anything."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from appfl_gc.config.diagnostic import Severity
from appfl_gc.config.explain import as_text, explain_all
from appfl_gc.config.federation import LOCAL
from appfl_gc.config.load import Examination, examine

INVALID = 2
"""Exit status of a configuration with errors."""


@click.command()
@click.option(
    "--server_config",
    "--server-config",
    required=True,
    help="YAML file with client_configs and server_configs.",
)
@click.option("--client_config", "--client-config", required=True, help="YAML file with clients.")
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
@click.option(
    "--explain", "explained", is_flag=True, help="Show every effective value and where it comes from."
)
@click.option("--local", is_flag=True, help="Check the rehearsal on this machine: `run --local`.")
@click.option(
    "--local-data",
    metavar="NAME=FILE.py:FUNCTION",
    multiple=True,
    help="With --local: another dataset for a client.",
)
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change one value, as `run --set` does."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.pass_context
def validate(
    ctx: click.Context,
    /,
    server_config: str,
    client_config: str,
    strict: bool,
    explained: bool,
    local: bool,
    local_data: Sequence[str],
    overrides: Sequence[str],
    form: str,
) -> None:
    """Check both YAML files and the Python files that they name, without running anything.

    All errors are shown at once, each with its file, line and key. The exit status is 0, or 2 if there are errors.
    """
    substitutes = dict(text.partition("=")[::2] for text in local_data)
    result = examine(
        server_config, client_config, overrides=overrides, strict=strict, local=local, local_data=substitutes
    )
    if form == "json":
        click.echo(json.dumps(_as_json(result, explained=explained), indent=2, ensure_ascii=False))
    else:
        _tell(result, explained=explained)
    if result.has_errors:
        ctx.exit(INVALID)


def _as_json(result: Examination, *, explained: bool) -> dict[str, object]:
    report: dict[str, object] = {
        "valid": not result.has_errors,
        "diagnostics": [found.to_json() for found in result.diagnostics],
    }
    if explained:
        report["effective"] = {
            title: {row.key: {"value": row.value, "from": row.origin} for row in rows}
            for title, rows in explain_all(result.views).items()
        }
    return report


def _tell(result: Examination, *, explained: bool) -> None:
    if explained:
        for title, rows in explain_all(result.views).items():
            click.echo(as_text(title, rows))
    for found in result.diagnostics:
        click.echo(str(found))
    counts = dict.fromkeys(Severity, 0)
    for found in result.diagnostics:
        counts[found.severity] += 1
    parts = [
        f"{count} {severity.value}{'' if count == 1 else 's'}" for severity, count in counts.items() if count
    ]
    verdict = "The configuration has errors" if result.has_errors else "The configuration is valid"
    click.echo(f"{verdict}{': ' if parts else ''}{', '.join(parts)}.")
    federation = result.federation
    if federation is not None and any(client.endpoint_id == LOCAL for client in federation.clients):
        parent = federation.server_configs.logging_output_dirname
        click.echo(f"User code of local clients runs in {parent}/<run id>/local/tasks_working_dir.")
