"""``appfl-gc runs``: what runs have left behind."""

from __future__ import annotations

from pathlib import Path

import click

from appfl_gc.cli.program import Program
from appfl_gc.protocol.errors import UsageError
from appfl_gc.runner.lease import holder
from appfl_gc.runner.leftovers import STORES, empty_stores, places

OUTPUT = Path("./output")


@click.group("runs", context_settings={"help_option_names": ["-h", "--help"]})
def runs() -> None:
    """Manage what runs have left behind."""


@runs.command("clean", cls=Program)
@click.argument("run_dirs", nargs=-1, metavar="[RUN_DIR]...", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(run_dirs: tuple[Path, ...], dry_run: bool) -> None:
    """Remove what runs that were killed have left in S3 buckets and in what ProxyStore connects to.

    Without RUN_DIR, of all runs in ./output. From a bucket goes what lies under the run's own prefix: objects, and
    uploads that nobody completed. From ProxyStore's connectors go the models and updates that the run's journal
    names. Nothing else is touched, and never what a run that is still going on needs. What sites are still
    computing for a run that was killed can't be delivered to its bucket after this; what they put into a connector
    later goes when this is called again.
    """
    if not run_dirs:
        run_dirs = tuple(sorted(file.parent for file in OUTPUT.glob(f"*/{STORES}")))
        if not run_dirs:
            click.echo(f"No run in {OUTPUT} has used a store that needs cleaning.")
    for directory in run_dirs:
        if any(places(directory)) and (found := holder(directory, _tell)) is not None:
            raise UsageError(
                f"The run {directory} still runs: {found}. Nothing of it was removed.",
                f"`appfl-gc cancel {directory}` ends it; a run that ends removes its objects itself.",
            )
        empty_stores(directory, click.echo, dry_run=dry_run)


def _tell(words: str) -> None:
    click.echo(words, err=True)
