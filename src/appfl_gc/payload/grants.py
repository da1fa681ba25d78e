"""Grants: what of them may be written down, and whether a payload lies where it was to."""

from __future__ import annotations

from collections.abc import Mapping

from appfl_gc.payload.inline_store import InlineStore
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json

FAR = ("s3", "proxystore")
"""Schemes of stores that others run (``Store.remote``)."""
_PUBLIC = ("scheme", "locator", "directory", "fsync", "limit", "upload")


def large_part(grant: Mapping[str, Json]) -> Mapping[str, Json]:
    """Of a grant by ``Stores`` the part about larger payloads; empty without one. Any other grant is that part."""
    large = grant.get("large") if "large" in grant else grant
    return large if isinstance(large, dict) else {}


def goes_far(grant: Mapping[str, Json], size: int) -> bool:
    """Whether a payload of ``size`` bytes goes into a store that others run."""
    inline, scheme = grant.get("inline"), large_part(grant).get("scheme")
    limit = inline.get("limit") if isinstance(inline, dict) else None
    return scheme in FAR and not (isinstance(limit, int) and size <= limit)


def granted(grant: Mapping[str, Json], ref: Ref) -> bool:
    """Whether ``ref`` is where a site with ``grant`` was to put its reply.

    A site knows other references too, such as the global model's; it must not make the server evict those.
    What follows an ``@`` in a locator says where the site put it, which its store checks.
    """
    if ref.scheme == InlineStore.scheme:
        return True
    large = large_part(grant)
    place = ref.locator.partition("@")[0]
    return (large.get("scheme"), large.get("locator")) == (ref.scheme, place)


def public(grant: Mapping[str, Json]) -> dict[str, Json]:
    """``grant`` without what gives access: granted URLs, keys, connectors' settings. For the journal."""
    kept: dict[str, Json] = {name: grant[name] for name in _PUBLIC if name in grant}
    for name in ("inline", "large"):
        part = grant.get(name)
        if isinstance(part, dict):
            kept[name] = public(part)
    return kept
