"""``appfl-gc runs``: what runs have left behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appfl_gc.cli.program import Program
from appfl_gc.protocol.errors import UsageError
from appfl_gc.protocol.wire import Json, WireError, as_key, as_object, load_json
from appfl_gc.runner.journal import is_open

if TYPE_CHECKING:
    from appfl_gc.payload.s3.run_objects import Swept

STORES = "stores.json"
OUTPUT = Path("./output")


@click.group("runs", context_settings={"help_option_names": ["-h", "--help"]})
def runs() -> None:
    """Manage what runs have left behind."""


@runs.command("clean", cls=Program)
@click.argument("run_dirs", nargs=-1, metavar="[RUN_DIR]...", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def clean(run_dirs: tuple[Path, ...], dry_run: bool) -> None:
    """Remove what runs that were killed have left in S3 buckets: objects, and uploads that nobody completed.

    Without RUN_DIR, of all runs in ./output. Only what lies under the run's own prefix is touched, never a bucket's
    other objects, and never what a run that is still going on needs. What sites are still computing for a run
    that was killed can't be delivered to its bucket after this.
    """
    if not run_dirs:
        run_dirs = tuple(sorted(file.parent for file in OUTPUT.glob(f"*/{STORES}")))
        if not run_dirs:
            click.echo(f"No run in {OUTPUT} has used a store that needs cleaning.")
    for directory in run_dirs:
        for place in places(directory):
            if is_open(directory / "journal.jsonl"):
                raise UsageError(
                    f"The run {directory} still runs. Nothing of it was removed.",
                    "Interrupt it first; a run that ends removes its objects itself.",
                )
            swept = sweep(directory, place, dry_run=dry_run)
            what = f"{_many(swept.objects, 'object')} ({swept.bytes:,} bytes)"
            done = "would remove" if dry_run else "removed"
            click.echo(
                f"{directory}: {done} {what} and {_many(swept.uploads, 'unfinished upload')} "
                f"from the S3 bucket {place['bucket']}."
            )


def places(directory: Path) -> list[dict[str, Json]]:
    """Where a run has kept payloads in S3, as its directory says.

    Raises:
        UsageError: if the directory is of no run, or what it says is not readable.
    """
    if not (directory / "journal.jsonl").is_file():
        raise UsageError(
            f"{directory} is not the directory of a run.",
            "Name a folder of ./output (server_configs.logging_output_dirname), with the run's date and time.",
        )
    try:
        fields = as_object(load_json((directory / STORES).read_text("utf-8")), "The list of stores")
        listed = fields.get("s3", [])
        if not isinstance(listed, list):
            raise WireError("The list of buckets is not a list.")
        return [as_object(place, "A bucket") for place in listed]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, WireError):
        raise UsageError(f"{directory / STORES} can't be read as a list of the run's stores.") from None


def sweep(directory: Path, place: dict[str, Json], *, dry_run: bool) -> Swept:
    """Remove, or only count, what the run has in one bucket.

    Raises:
        UsageError: if the place is not of this run.
        TransferError, UsageError: if the bucket can't be reached or refuses.
    """
    from appfl_gc.payload.s3.client import Client
    from appfl_gc.payload.s3.run_objects import RunObjects
    from appfl_gc.payload.s3.settings import S3Settings

    try:
        bucket = as_key(place.get("bucket"), "The bucket", 100)
        base = as_key(place.get("prefix"), "The prefix", 1000)
        endpoint, region, file = (
            None if place.get(name) is None else as_key(place.get(name), f"The {name}", 4000)
            for name in ("endpoint_url", "region", "credentials_file")
        )
    except WireError as error:
        raise UsageError(f"{directory / STORES} is damaged: {error}") from None
    if base.rstrip("/").rpartition("/")[2] != directory.resolve().name:
        raise UsageError(
            f"{directory / STORES} names objects of another run than {directory.resolve().name}.",
            "A run's directory must have the name that the run gave it.",
        )
    client = Client(
        S3Settings(bucket, endpoint, region, None if file is None else Path(file)), threading.Event()
    )
    try:
        return RunObjects(client, base).sweep(dry_run=dry_run)
    finally:
        client.close()


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
