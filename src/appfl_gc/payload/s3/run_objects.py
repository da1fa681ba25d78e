"""What one run has in a bucket: everything under its own prefix, and nothing else is ever touched."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from appfl_gc.payload.s3.client import Client
from appfl_gc.protocol.errors import TransferError, UsageError

_BASE = re.compile(r"[A-Za-z0-9._-]{1,100}(/[A-Za-z0-9._-]{1,100}){1,6}/")
_AT_ONCE = 8
SWEEP_SECONDS = 20.0
"""How long a run that ends waits for its sweep."""

Item = TypeVar("Item")
_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Swept:
    """What was removed, or would be.

    Attributes:
        objects: how many objects.
        bytes: their sizes together.
        uploads: uploads that were begun and never completed.
    """

    objects: int = 0
    bytes: int = 0
    uploads: int = 0


class RunObjects:
    """The objects of a run.

    Args:
        client: of the bucket.
        base: what their names begin with: prefix and run, with a slash at the end.

    Raises:
        UsageError: if ``base`` is not of that form.
    """

    def __init__(self, client: Client, base: str) -> None:
        if not _BASE.fullmatch(base) or {".", ".."} & set(base.split("/")):
            raise UsageError(f"{base!r} is not where a run keeps its objects: PREFIX/RUN/.")
        self._client = client
        self.base = base

    def key(self, locator: str) -> str:
        """The object's name."""
        return f"{self.base}{locator}"

    def brief(self, over: threading.Event) -> RunObjects:
        """The same objects by ``Client.brief``."""
        return RunObjects(self._client.brief(over), self.base)

    def sweep_within(self, seconds: float, *, dry_run: bool = False) -> Swept:
        """Like ``sweep``, whether the run is stopping or not, and only as far as it comes within ``seconds``.

        Raises:
            TransferError, UsageError: if the store does not do it, or not in time.
        """
        over = threading.Event()
        timer = threading.Timer(seconds, over.set)
        timer.daemon = True
        timer.start()
        try:
            return self.brief(over).sweep(dry_run=dry_run)
        except TransferError:
            if not over.is_set():
                raise
            bucket = self._client.settings.bucket
            raise TransferError(
                f"Not all that the run has in the S3 bucket {bucket} was seen to within {seconds:g} s.",
                "`appfl-gc runs clean` with the run's directory removes the rest.",
            ) from None
        finally:
            timer.cancel()

    def sweep(self, *, dry_run: bool = False) -> Swept:
        """Remove all objects and all uploads that were not completed.

        Args:
            dry_run: count them only.

        Raises:
            TransferError, UsageError: if the store does not do it.
        """
        # The lists are whole before anything goes, so that no page is skipped.
        uploads = list(self.uploads())
        if not dry_run:
            _each(lambda upload: self.abort(*upload), uploads)
        items = list(self._listed("list the run's objects", "list_objects_v2", "Contents"))
        if not dry_run:
            _each(lambda item: self.delete(str(item["Key"])), items)
        return Swept(len(items), sum(int(item.get("Size", 0)) for item in items), len(uploads))

    def locators(self) -> Iterator[str]:
        """Of each object.

        Raises:
            TransferError, UsageError: if the store does not tell.
        """
        for item in self._listed("list the run's objects", "list_objects_v2", "Contents"):
            yield str(item["Key"])[len(self.base) :]

    def uploads(self, locator: str = "") -> Iterator[tuple[str, str]]:
        """Name and id of each upload that was not completed: all, or those of one payload."""
        items = self._listed("list the run's uploads", "list_multipart_uploads", "Uploads", locator)
        for item in items:
            yield item["Key"], item["UploadId"]

    def put_small(self, locator: str, content: bytes) -> None:
        """Put an object of a few bytes.

        Raises:
            TransferError, UsageError: if the store does not take it.
        """
        self._client.ask("take an object", "put_object", Key=self.key(locator), Body=content)

    def sign(self, operation: str, locator: str, seconds: int, *, size: int | None = None) -> str:
        """A URL that allows ``operation`` on one object to whoever has it; of ``size`` bytes only, if that is given."""
        more = {} if size is None else {"ContentLength": size}
        return self._client.sign(operation, seconds, Key=self.key(locator), **more)

    def abort(self, key: str, upload: str) -> None:
        """End an upload; nothing happens if it is gone."""
        self._client.ask("end an upload", "abort_multipart_upload", gone={}, Key=key, UploadId=upload)

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if it is gone."""
        self._client.ask("remove an object", "delete_object", gone={}, Key=key)

    def _listed(self, what: str, operation: str, items: str, locator: str = "") -> Iterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            page = self._client.ask(what, operation, Prefix=self.key(locator), **more)
            for item in page.get(items) or ():
                # Never what someone else may have put there.
                name = str(item.get("Key", ""))
                if name.startswith(self.base) and _NAME.fullmatch(name[len(self.base) :]):
                    yield item
            if not page.get("IsTruncated"):
                return
            if operation == "list_objects_v2":
                more = {"ContinuationToken": page["NextContinuationToken"]}
            else:
                more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _each(work: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Do all, a few at once; the first error ends it."""
    with ThreadPoolExecutor(_AT_ONCE, "appfl-gc-s3-sweep") as pool:
        for _ in pool.map(work, items):
            pass
