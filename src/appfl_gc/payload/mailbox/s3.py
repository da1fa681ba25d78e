"""Mailboxes in an S3 bucket: the mark is an object that the server puts, and progress one that the site puts.

The site has URLs that the server signed, and neither credentials nor boto3.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping

import requests

from appfl_gc.payload.mailbox.base import TaskProgress
from appfl_gc.payload.mailbox.progress_json import LENGTH, progress_bytes, read_progress
from appfl_gc.payload.s3.exchange import Body, Deadlines, exchange
from appfl_gc.payload.s3.granted import LOCATOR, signed_url
from appfl_gc.payload.s3.refusals import AbsentError
from appfl_gc.payload.s3.run_objects import RunObjects
from appfl_gc.payload.store import ignore
from appfl_gc.protocol.errors import AppflGcError, TransferError
from appfl_gc.protocol.wire import Json

DEADLINES = Deadlines(connect=5.0, silence=10.0)
"""Short: nothing depends on one look."""


class S3ServerMailbox:
    """See ``ServerMailbox``.

    Args:
        objects: of the run.
        removing: the same, by requests that end soon and don't heed that the run stops.
        seconds: how long the site's URLs live.
        public: of a mailbox that was made before; None for a new one, whose mark is put there.

    Raises:
        TransferError: if the store can't be reached, or never gave ``public``.
    """

    def __init__(
        self,
        objects: RunObjects,
        removing: RunObjects,
        seconds: int,
        public: Mapping[str, Json] | None = None,
    ) -> None:
        self._objects, self._removing = objects, removing
        self._seconds = seconds
        named = public or {"mark": secrets.token_hex(16), "progress": secrets.token_hex(16)}
        self._mark, self._progress = (str(named.get(name)) for name in ("mark", "progress"))
        if not LOCATOR.fullmatch(self._mark) or not LOCATOR.fullmatch(self._progress):
            raise TransferError("A mailbox has a name that this store never gave.")
        if public is None:
            objects.put_small(self._mark, b"wanted")

    @property
    def grant(self) -> dict[str, Json]:
        """See ``ServerMailbox``."""
        return {
            "scheme": "s3",
            "wanted": self._objects.sign("get_object", self._mark, self._seconds),
            "tell": self._objects.sign("put_object", self._progress, self._seconds, size=LENGTH),
        }

    @property
    def public(self) -> dict[str, Json]:
        """See ``ServerMailbox``."""
        return {"scheme": "s3", "mark": self._mark, "progress": self._progress}

    def progress(self) -> TaskProgress | None:
        """See ``ServerMailbox``."""
        url = self._objects.sign("get_object", self._progress, 300)
        try:
            with (
                requests.Session() as session,
                exchange(session, "GET", url, "a look into a mailbox", DEADLINES) as answer,
            ):
                return read_progress(answer.raw.read(LENGTH, decode_content=False))
        except AbsentError:
            return None

    def remove(self) -> None:
        """See ``ServerMailbox``."""
        for locator in (self._mark, self._progress):
            self._removing.delete(self._removing.key(locator))


class S3SiteMailbox:
    """See ``SiteMailbox``.

    Args:
        wanted: signed URL of the mark.
        tell: signed URL for progress.
    """

    def __init__(self, wanted: str, tell: str) -> None:
        self._wanted, self._tell = wanted, tell
        self._session = requests.Session()

    @classmethod
    def from_grant(cls, grant: Mapping[str, Json]) -> S3SiteMailbox:
        """The mailbox that a server granted; raises ``WireError``."""
        return cls(signed_url(grant.get("wanted")), signed_url(grant.get("tell")))

    def wanted(self) -> bool:
        """See ``SiteMailbox``: only a store that says that there is no such object says no."""
        try:
            with exchange(self._session, "GET", self._wanted, "a look into a mailbox", DEADLINES):
                return True
        except AbsentError:
            return False
        except AppflGcError:
            return True

    def tell(self, progress: TaskProgress) -> None:
        """See ``SiteMailbox``."""
        content = progress_bytes(progress)
        body = Body([memoryview(content)], len(content), ignore)
        with (
            contextlib.suppress(AppflGcError),
            exchange(self._session, "PUT", self._tell, "a note of progress", DEADLINES, body),
        ):
            pass

    def close(self) -> None:
        """See ``SiteMailbox``."""
        self._session.close()
