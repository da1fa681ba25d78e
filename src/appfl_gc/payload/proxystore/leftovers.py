"""What a killed run has left in a connector, by the names that its journal has."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from appfl_gc.config.connectors import EndpointArguments, arguments
from appfl_gc.payload.proxystore.making import connect
from appfl_gc.payload.proxystore.parts import MOST_PARTS, Parts, part_name
from appfl_gc.payload.proxystore.removal import REMOVAL, WHAT
from appfl_gc.payload.proxystore.store import LOCATOR, SCHEME
from appfl_gc.payload.retry import retry
from appfl_gc.protocol.errors import AppflGcError


@dataclass(frozen=True)
class Left:
    """A payload that may still lie in a connector.

    Attributes:
        base: its name, 32 hexadecimal digits.
        where: the place that a locator names, or None if it may be any.
        size: its bytes, or None if nobody knows them.
    """

    base: str
    where: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Swept:
    """What went, or would go.

    Attributes:
        payloads: how many of them.
        trouble: of the first place that could not be cleaned; None if all could.
    """

    payloads: int
    trouble: AppflGcError | None = None


def model_left(reference: Mapping[str, object]) -> Left | None:
    """The payload of a reference as the journal has it; None if it is in another store."""
    locator, size = reference.get("locator"), reference.get("size")
    if reference.get("scheme") != SCHEME or not isinstance(locator, str):
        return None
    base, _, where = locator.partition("@")
    if not LOCATOR.fullmatch(base):
        return None
    return Left(base, where, size if isinstance(size, int) and size >= 0 else None)


def update_left(grant: Mapping[str, object]) -> Left | None:
    """The payload that a site was to put with a grant; None if it goes into another store."""
    base = grant.get("locator")
    if grant.get("scheme") != SCHEME or not isinstance(base, str) or not LOCATOR.fullmatch(base):
        return None
    return Left(base)


def sweep(
    connector_type: str,
    near: Mapping[str, object],
    far: Mapping[str, object],
    left: Iterable[Left],
    *,
    dry_run: bool,
) -> Swept:
    """Remove, or only count, what there still is of ``left``. Nothing else is touched, listed or read.

    Args:
        connector_type: name of a connector.
        near: its keyword arguments on this machine.
        far: those at sites.
        left: what to look for.
        dry_run: only count.

    Raises:
        UsageError: if the connector does not serve here.
        TransferError: if what it reaches does not run.
        VersionError: if a package is missing.
    """
    here, there = arguments(connector_type, near), arguments(connector_type, far)
    peers = [str(one) for one in there.endpoints] if isinstance(there, EndpointArguments) else []
    parts = connect(here, peers, threading.Event(), create=False)
    try:
        return sweep_parts(parts, list(dict.fromkeys(left)), dry_run=dry_run)
    finally:
        parts.close()


def sweep_parts(parts: Parts, left: Sequence[Left], *, dry_run: bool) -> Swept:
    """As ``sweep``. A place that fails is left at once, so that many payloads don't wait for it one by one."""
    found: set[str] = set()
    trouble: AppflGcError | None = None
    for where in parts.places:
        try:
            for one in left:
                if one.where in (None, where) and _sweep_one(parts, one, where, dry_run=dry_run):
                    found.add(one.base)
        except AppflGcError as error:
            trouble = trouble or error
    return Swept(len(found), trouble)


def _sweep_one(parts: Parts, one: Left, where: str, *, dry_run: bool) -> bool:
    # A run that was killed while it removed a payload has left a gap at its beginning.
    known = 1 if one.size is None else -(-one.size // parts.part_bytes)
    never, found = threading.Event(), False
    for number in range(MOST_PARTS):
        name = part_name(one.base, number)
        if retry(functools.partial(parts.holds, name, where), WHAT, never, REMOVAL):
            found = True
            if not dry_run:
                retry(functools.partial(parts.drop, name, where), WHAT, never, REMOVAL)
        elif number + 1 >= known:
            break
    return found
