"""What a run has left in S3 buckets and in what ProxyStore connects to, as its directory says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from appfl_gc.protocol.errors import TransferError, UsageError
from appfl_gc.protocol.wire import Json, WireError, as_key, as_object, load_json
from appfl_gc.runner.journal import read_journal

if TYPE_CHECKING:
    from appfl_gc.payload.proxystore.leftovers import Swept as ConnectorSwept
    from appfl_gc.payload.s3.run_objects import RunObjects, Swept

STORES = "stores.json"
JOURNAL = "journal.jsonl"


def places(directory: Path) -> tuple[list[dict[str, Json]], list[dict[str, Json]]]:
    """Where a run has kept payloads, as its directory says: in S3, and by ProxyStore.

    Raises:
        UsageError: if the directory is of no run, or what it says is not readable.
    """
    if not (directory / JOURNAL).is_file():
        raise UsageError(
            f"{directory} is not the directory of a run.",
            "Name a folder of ./output (server_configs.logging_output_dirname), with the run's date and time.",
        )
    try:
        fields = as_object(load_json((directory / STORES).read_text("utf-8")), "The list of stores")
        return _listed(fields, "s3"), _listed(fields, "proxystore")
    except FileNotFoundError:
        return [], []
    except (OSError, ValueError, WireError):
        raise UsageError(f"{directory / STORES} can't be read as a list of the run's stores.") from None


def _listed(fields: dict[str, Json], name: str) -> list[dict[str, Json]]:
    listed = fields.get(name, [])
    if not isinstance(listed, list):
        raise WireError("The list of stores is not a list.")
    return [as_object(place, "A store") for place in listed]


def connector_of(directory: Path, place: dict[str, Json]) -> tuple[str, dict[str, Json], dict[str, Json]]:
    """Kind of a connector, its settings at the server and at sites; raises ``UsageError`` if the place is damaged."""
    try:
        kind = as_key(place.get("connector_type"), "The connector", 100)
        near, far = (
            as_object(place.get(name), f"The value of {name}")
            for name in ("connector_configs", "site_configs")
        )
    except WireError as error:
        raise UsageError(f"{directory / STORES} is damaged: {error}") from None
    return kind, near, far


def sweep_connector(
    directory: Path, place: dict[str, Json], *, dry_run: bool
) -> tuple[ConnectorSwept, ConnectorSwept]:
    """Remove, or only count, the global models and the updates of the run in one connector.

    Raises:
        UsageError: if the place is damaged, or the connector does not serve on this machine.
        JournalError: if the journal is damaged.
        TransferError: if the connector can't be reached at all.
        VersionError: if a package is missing.
    """
    from appfl_gc.payload.grants import large_part
    from appfl_gc.payload.proxystore.leftovers import model_left, sweep, update_left

    kind, near, far = connector_of(directory, place)
    models, updates = [], []
    for record in read_journal(directory / JOURNAL):
        if record.kind not in ("dispatch", "retry"):
            continue
        model, grant = record.fields.get("model_at"), record.fields.get("grant")
        if isinstance(model, dict) and (left := model_left(model)):
            models.append(left)
        if isinstance(grant, dict) and (left := update_left(large_part(grant))):
            updates.append(left)
    first = sweep(kind, near, far, models, dry_run=dry_run)
    return first, sweep(kind, near, far, updates, dry_run=dry_run)


def sweep(directory: Path, place: dict[str, Json], *, dry_run: bool) -> Swept:
    """Remove, or only count, what the run has in one bucket.

    Raises:
        UsageError: if the place is not of this run.
        TransferError, UsageError: if the bucket can't be reached or refuses.
    """
    with bucket_objects(directory, place) as objects:
        return objects.sweep(dry_run=dry_run)


@contextlib.contextmanager
def bucket_objects(directory: Path, place: dict[str, Json]) -> Iterator[RunObjects]:
    """What the run has in one bucket; raises as ``sweep``."""
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
        yield RunObjects(client, base)
    finally:
        client.close()


def empty_stores(directory: Path, tell: Callable[[str], None], *, dry_run: bool = False) -> None:
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
        tell(
            f"{directory}: {done} {what} and {_many(swept.uploads, 'unfinished upload')} "
            f"from the S3 bucket {place['bucket']}."
        )
    for place in connectors:
        models, updates = sweep_connector(directory, place, dry_run=dry_run)
        tell(
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
