"""What one run has in a bucket: everything under its own prefix, and nothing else is ever touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appfl_gc.payload.s3.client import Client
from appfl_gc.protocol.errors import UsageError

_BASE = re.compile(r"[A-Za-z0-9._-]{1,100}(/[A-Za-z0-9._-]{1,100}){1,6}/")
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

    def sweep(self, *, dry_run: bool = False) -> Swept:
        """Remove all objects and all uploads that were not completed.

        Args:
            dry_run: count them only.

        Raises:
            TransferError, UsageError: if the store does not do it.
        """
        objects = size = uploads = 0
        # The lists are whole before anything goes, so that no page is skipped.
        for key, upload in list(self.uploads()):
            uploads += 1
            if not dry_run:
                self.abort(key, upload)
        for item in list(self._listed("list the run's objects", "list_objects_v2", "Contents")):
            objects += 1
            size += int(item.get("Size", 0))
            if not dry_run:
                self.delete(item["Key"])
        return Swept(objects, size, uploads)

    def uploads(self, locator: str = "") -> Iterator[tuple[str, str]]:
        """Name and id of each upload that was not completed: all, or those of one payload."""
        items = self._listed("list the run's uploads", "list_multipart_uploads", "Uploads", locator)
        for item in items:
            yield item["Key"], item["UploadId"]

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
