"""Tells what a run has left in stores, and what of it goes."""

from __future__ import annotations

from pathlib import Path

import click

from appfl_gc.protocol.errors import TransferError
from appfl_gc.runner.leftovers import places, sweep, sweep_connector


def empty_stores(directory: Path, *, dry_run: bool) -> None:
    """Remove, or only count, what the run has in stores, and tell so.

    Raises:
        UsageError: if the directory is of no run, or damaged, or a store does not serve on this machine.
        TransferError: if not everything could be looked for.
        JournalError: if the journal is damaged.
        VersionError: if a package is missing.
    """
    done = "would remove" if dry_run else "removed"
    buckets, connectors = places(directory)
    for place in buckets:
        swept = sweep(directory, place, dry_run=dry_run)
        what = f"{_many(swept.objects, 'object')} ({swept.bytes:,} bytes)"
        click.echo(
            f"{directory}: {done} {what} and {_many(swept.uploads, 'unfinished upload')} "
            f"from the S3 bucket {place['bucket']}."
        )
    for place in connectors:
        models, updates = sweep_connector(directory, place, dry_run=dry_run)
        click.echo(
            f"{directory}: {done} {_many(models.payloads, 'global model')} and "
            f"{_many(updates.payloads, 'update')} from ProxyStore's {place['connector_type']}."
        )
        if trouble := models.trouble or updates.trouble:
            raise TransferError(
                f"Not everything of {directory} could be looked for. {trouble.message}",
                trouble.hint or "Call this again when the store can be reached.",
            )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
