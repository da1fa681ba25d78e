"""The site's side of whatever mailbox a call comes with."""

from __future__ import annotations

from collections.abc import Mapping

from appfl_gc.payload.mailbox.base import SiteMailbox
from appfl_gc.payload.mailbox.file import FileSiteMailbox
from appfl_gc.protocol.wire import Json, WireError, as_key


def mailbox_from_grant(grant: Mapping[str, Json]) -> SiteMailbox:
    """The mailbox that a server granted (``ServerMailbox.grant``).

    Raises:
        WireError: if the grant is malformed or of a kind that this version does not know.
    """
    scheme = as_key(grant.get("scheme"), "The mailbox's scheme", 50)
    if scheme == "file":
        return FileSiteMailbox.from_grant(grant)
    if scheme == "s3":
        from appfl_gc.payload.mailbox.s3 import S3SiteMailbox

        return S3SiteMailbox.from_grant(grant)
    raise WireError(f"The mailbox is of a kind {scheme!r} that this version does not know.")
