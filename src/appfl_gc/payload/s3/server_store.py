"""The server's side of the S3 store: it has the credentials, grants, completes and removes."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from appfl_gc.payload.encoded import Encoded
from appfl_gc.payload.mailbox.s3 import S3ServerMailbox
from appfl_gc.payload.retry import Patience
from appfl_gc.payload.s3.client import Client
from appfl_gc.payload.s3.download import download
from appfl_gc.payload.s3.exchange import Deadlines
from appfl_gc.payload.s3.granted import LOCATOR
from appfl_gc.payload.s3.listed_parts import fitting
from appfl_gc.payload.s3.problems import no_service
from appfl_gc.payload.s3.run_objects import SWEEP_SECONDS, RunObjects, Swept
from appfl_gc.payload.s3.settings import S3Settings
from appfl_gc.payload.s3.upload import SMALLEST_PART, part_bytes, upload
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import AppflGcError, TransferError
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

_RUN = re.compile(r"[A-Za-z0-9._-]{1,100}")


class S3Store:
    """See ``Store``. Payloads are objects ``PREFIX/RUN/LOCATOR``; locators are unguessable.

    A site uploads in parts; the server completes it when their sizes add up. Until then no object is there.

    Args:
        settings: which bucket.
        run_id: of the run whose payloads these are.
        stop: ends transfers within a second. Evicting, withdrawing and sweeping don't heed it, and end soon by
            themselves.
        patience: with each request; None for the default.
        deadlines: of each request; None for the default.

    Raises:
        UsageError: if there are no credentials or they can't be used.
        VersionError: if boto3 is not installed.
    """

    scheme = "s3"
    remote = True

    def __init__(
        self,
        settings: S3Settings,
        run_id: str,
        stop: threading.Event,
        *,
        patience: Patience | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.settings = settings
        self._stop = stop
        self._how = patience, deadlines
        if not _RUN.fullmatch(run_id):
            raise TransferError(f"{run_id!r} can't be part of an object's name.")
        self._client = Client(settings, stop, patience=patience, deadlines=deadlines)
        self._objects = RunObjects(self._client, f"{settings.prefix}/{run_id}/")
        self._removing = self._objects.brief(threading.Event())
        self._lock = threading.Lock()
        self._own: set[str] = set()
        self._begun: dict[str, tuple[str, int]] = {}

    @property
    def where(self) -> dict[str, Json]:
        """What ``runs clean`` needs to find this run's objects. No secrets."""
        file = self.settings.credentials_file
        return {
            "bucket": self.settings.bucket,
            "endpoint_url": self.settings.endpoint_url,
            "region": self._client.region,
            "prefix": self._objects.base,
            "credentials_file": None if file is None else str(file.absolute()),
        }

    def put(self, payload: Encoded, sent: Callable[[int], None] = ignore) -> Ref:
        """See ``Store.put``. Encoding, checksum and upload overlap."""
        locator = secrets.token_hex(16)
        if payload.size <= SMALLEST_PART:
            url = self._sign("put_object", locator)
            checksum, _ = self._upload(payload, SMALLEST_PART, lambda index: url, sent)
        else:
            checksum = self._put_parts(payload, locator, sent)
        with self._lock:
            self._own.add(locator)
        return Ref(self.scheme, locator, payload.size, checksum, payload.codec)

    def fetch(self, ref: Ref, file: int, arrived: Callable[[int], None]) -> None:
        """See ``Store.fetch``. What a site uploaded is checked for its size, and completed, first."""
        key = self._key(ref)
        with self._lock:
            own, begun = ref.locator in self._own, self._begun.get(ref.locator)
        if begun is None and not own:
            # A grant of before a restart.
            ids = [upload_id for name, upload_id in self._objects.uploads(ref.locator) if name == key]
            begun = (ids[0], ref.size) if ids else None
        if begun is not None:
            self._complete(ref, *begun)
        patience, deadlines = self._how
        url = self._sign("get_object", ref.locator)
        download(url, ref.size, file, arrived, self._stop, patience=patience, deadlines=deadlines)

    def descriptor(self, ref: Ref) -> int | None:
        """See ``Store.descriptor``; always None."""
        return None

    def evict(self, ref: Ref) -> None:
        """See ``Store.evict``. Only objects of this run can be named. Does not heed ``stop``; two quick tries."""
        key = self._key(ref)
        self._abort(ref.locator)
        self._removing.delete(key)
        with self._lock:
            self._own.discard(ref.locator)

    def grant(self, read: Sequence[Ref], largest: int) -> dict[str, Json]:
        """See ``Store.grant``. ``seconds`` is how long the URLs live (see ``seconds_valid``)."""
        for ref in read:
            self._key(ref)
        locator = secrets.token_hex(16)
        upload_id = self._begin(locator)
        with self._lock:
            self._begun[locator] = (upload_id, largest)
        size, seconds = part_bytes(largest), self._seconds()
        return {
            "scheme": self.scheme,
            "locator": locator,
            "upload": upload_id,
            "seconds": seconds,
            "part_bytes": size,
            "parts": [
                self._sign("upload_part", locator, seconds, UploadId=upload_id, PartNumber=number)
                for number in range(1, max(1, -(-largest // size)) + 1)
            ],
            "read": {ref.locator: self._sign("get_object", ref.locator, seconds) for ref in read},
        }

    def withdraw(self, grant: Mapping[str, Json]) -> None:
        """See ``Store.withdraw``; of the grant it needs ``locator`` and ``upload``.

        The object goes too, if the upload has been completed. Does not heed ``stop``; two quick tries.
        """
        locator, upload_id = grant.get("locator"), grant.get("upload")
        if not isinstance(locator, str) or not LOCATOR.fullmatch(locator):
            raise TransferError("A grant has a locator that this store never gave.")
        if isinstance(upload_id, str):
            with self._lock:
                self._begun.setdefault(locator, (upload_id, 0))
        self._abort(locator)
        self._removing.delete(self._objects.key(locator))

    def mailbox(self, public: Mapping[str, Json] | None = None) -> S3ServerMailbox:
        """See ``Store.mailbox``."""
        return S3ServerMailbox(self._objects, self._removing, self._seconds(), public)

    def seconds_valid(self) -> float:
        """How many seconds URLs that are granted now live: less than configured if the login ends sooner."""
        return self._client.seconds_valid()

    def sweep(self, *, dry_run: bool = False, seconds: float = SWEEP_SECONDS) -> Swept:
        """Remove (or only count) all that this run has in the bucket, also uploads that nobody completed.

        Does not heed ``stop``: it works whether that is set or not, and returns within ``seconds``.

        Raises:
            TransferError, UsageError: if the store does not do it, or not in time.
        """
        return self._objects.sweep_within(seconds, dry_run=dry_run)

    def close(self) -> None:
        """See ``Store.close``."""
        self._client.close()

    def _key(self, ref: Ref) -> str:
        if ref.scheme != self.scheme or not LOCATOR.fullmatch(ref.locator):
            raise TransferError("A payload reference has a locator that this store never gave.")
        return self._objects.key(ref.locator)

    def _seconds(self) -> int:
        return max(1, int(self.seconds_valid()))

    def _sign(self, operation: str, locator: str, seconds: int | None = None, **more: Any) -> str:
        key = self._objects.key(locator)
        return self._client.sign(operation, seconds or self._seconds(), Key=key, **more)

    def _upload(
        self, payload: Encoded, size: int, url: Callable[[int], str], sent: Callable[[int], None]
    ) -> tuple[str, list[str]]:
        patience, deadlines = self._how
        return upload(payload, size, url, sent, self._stop, patience=patience, deadlines=deadlines)

    def _begin(self, locator: str) -> str:
        what = "make room for an upload"
        answer = self._client.ask(what, "create_multipart_upload", Key=self._objects.key(locator))
        if "UploadId" not in answer:
            raise no_service(what, self.settings.bucket, self._client.address, "its answer names no upload")
        return str(answer["UploadId"])

    def _put_parts(self, payload: Encoded, locator: str, sent: Callable[[int], None]) -> str:
        key, upload_id = self._objects.key(locator), self._begin(locator)

        def url(index: int) -> str:
            return self._sign("upload_part", locator, UploadId=upload_id, PartNumber=index + 1)

        try:
            checksum, tags = self._upload(payload, part_bytes(payload.size), url, sent)
            self._finish(locator, upload_id, list(enumerate(tags, 1)))
        except BaseException:
            # What is left if this fails too goes when the run's objects are swept.
            with contextlib.suppress(AppflGcError):
                self._objects.abort(key, upload_id)
            raise
        return checksum

    def _complete(self, ref: Ref, upload_id: str, largest: int) -> None:
        key = self._objects.key(ref.locator)
        listed = self._client.ask("list an upload", "list_parts", gone={}, Key=key, UploadId=upload_id)
        parts, size = fitting(listed.get("Parts") or (), ref.size)
        if listed and (size != ref.size or size > largest):
            raise TransferError(
                f"A site uploaded {size:,} bytes to the store, said that there are {ref.size:,}, and was granted "
                f"{largest:,}. Its payload was refused."
            )
        if listed:
            self._finish(ref.locator, upload_id, parts)
        with self._lock:
            self._begun.pop(ref.locator, None)

    def _finish(self, locator: str, upload_id: str, parts: list[tuple[int, str]]) -> None:
        # Gone: an earlier try was done although its answer was lost. If not, the object is missing.
        self._client.ask(
            "complete an upload",
            "complete_multipart_upload",
            gone={},
            Key=self._objects.key(locator),
            UploadId=upload_id,
            MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in parts]},
        )

    def _abort(self, locator: str) -> None:
        with self._lock:
            begun = self._begun.get(locator)
        if begun is not None:
            self._removing.abort(self._objects.key(locator), begun[0])
            with self._lock:
                self._begun.pop(locator, None)
