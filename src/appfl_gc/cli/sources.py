"""``appfl-gc sources``: what a run would send to the sites."""

from __future__ import annotations

import json
from pathlib import Path

import click

from appfl_gc.cli.program import Program
from appfl_gc.protocol.source import Source


@click.group("sources", context_settings={"help_option_names": ["-h", "--help"]})
def sources() -> None:
    """Show which source files a run would send."""


@sources.command("export", cls=Program)
@click.option(
    "--server_config", "--server-config", "server_config", required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--client_config", "--client-config", "client_config", required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("sources"),
    show_default=True,
    help="Directory that receives the files.",
)
@click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def export(server_config: Path, client_config: Path, output: Path, output_format: str) -> None:
    """Write the source files that a run would send, with their hashes, for the sites' owners to review."""
    from appfl_gc.config import load

    federation = load(server_config, client_config)
    clients_of: dict[Source, list[str]] = {}
    for client in federation.clients:
        for source in client.sources.values():
            if source.text is not None:
                clients_of.setdefault(source, []).append(client.client_id)
    output.mkdir(parents=True, exist_ok=True)
    rows = []
    for source, clients in clients_of.items():
        path = output / f"{source.kind}-{source.sha256[:12]}-{Path(source.filename).name or 'source.py'}"
        path.write_text(source.text or "", encoding="utf-8", newline="")
        rows.append({"sha256": source.sha256, "kind": source.kind, "file": str(path), "clients": clients})
        if output_format == "text":
            click.echo(f"{source.sha256}  {source.kind:<8} {path}  for {', '.join(clients)}")
    if output_format == "json":
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(
            f"{len(rows)} files are in {output}; a site's owner allows one with: appfl-gc site allow HASH"
        )
