"""What has to go from a connector: it is remembered until it is gone, and removing it never takes long.

Nothing here heeds the event that ends transfers: a run that stops still has to remove what it made.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

from appfl_gc.payload.proxystore.parts import MOST_PARTS, Parts, part_name, part_places
from appfl_gc.payload.retry import Patience, retry
from appfl_gc.protocol.errors import AppflGcError, TransferError

WHAT = "The removal of a payload"
REMOVAL = Patience(tries=2, first=0.5, longest=2.0)
ONCE = Patience(tries=1)
SWEEP_SECONDS = 20.0
"""How long a run that ends waits for its sweep."""
MOST_WITHDRAWN = 1000
"""Withdrawn payloads that are looked for once more when the run ends; the latest ones."""
_LAST_SECONDS = 2.0


class Removal:
    """Removes payloads by their base names, from all places where they may lie.

    Args:
        parts: the connector.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._never = threading.Event()
        self._lock = threading.Lock()
        self._promised: set[str] = set()
        # By place, the number of the part that was looked for last: a put that goes on goes on there.
        self._withdrawn: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._over = threading.Event()
        self._sweeper: threading.Thread | None = None

    @property
    def pending(self) -> frozenset[str]:
        """Base names that ``sweep`` would look for."""
        with self._lock:
            return frozenset(self._promised | set(self._withdrawn))

    def promise(self, base: str) -> None:
        """A payload of that name will be put, or may be."""
        with self._lock:
            self._promised.add(base)

    def drop(self, base: str, where: str, size: int, part_bytes: int) -> None:
        """Remove a payload whose size and place are known; its promise is forgotten when it is gone.

        Raises:
            TransferError: if the place can't be reached.
        """
        for name, _, _ in part_places(base, size, part_bytes):
            retry(functools.partial(self._parts.drop, name, where), WHAT, self._never, REMOVAL)
        self._forget(base)

    def withdraw(self, base: str) -> None:
        """Remove what there is of a payload now, and look once more in ``sweep``: its put may not have ended.

        Raises:
            TransferError: if a place can't be reached; the others have been looked at.
        """
        seen: dict[str, int] = {}
        with self._lock:
            self._promised.discard(base)
            self._withdrawn[base] = seen
            while len(self._withdrawn) > MOST_WITHDRAWN:
                self._withdrawn.popitem(last=False)
        trouble: AppflGcError | None = None
        for where in self._parts.places:
            try:
                seen[where] = self._drop_all(base, where, REMOVAL, self._never)
            except AppflGcError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    def take_back(self, base: str, where: str) -> None:
        """Remove what a failed put has left, if that works at once; else the promise stays for ``sweep``."""
        try:
            if where in self._parts.places:
                self._drop_all(base, where, ONCE, self._never)
                self._forget(base)
        except AppflGcError:
            # The failure itself is what the caller hears.
            return

    def sweep(self, seconds: float = SWEEP_SECONDS) -> None:
        """Remove what is promised or withdrawn. A place that can't be reached is asked once.

        Args:
            seconds: until this returns, whatever the connector does.

        Raises:
            TransferError: if a place can't be reached, or time is over.
        """
        errors: list[Exception] = []

        def work() -> None:
            try:
                self._sweep()
            except Exception as error:  # noqa: BLE001  raised again on the caller's thread
                errors.append(error)

        self._over.clear()
        self._sweeper = threading.Thread(target=work, name="appfl-gc-sweep", daemon=True)
        self._sweeper.start()
        self._sweeper.join(seconds)
        if self._sweeper.is_alive():
            self._over.set()
            raise TransferError(
                f"Not all that the run has put into the store could be removed within {seconds:g} s.",
                "The store, or a place of it, is slow or does not answer; what is left there are a few models.",
            )
        if errors:
            raise errors[0]

    def close(self) -> None:
        """End a sweep that is still going on; to be called when the connector is closed."""
        self._over.set()
        if self._sweeper is not None:
            self._sweeper.join(_LAST_SECONDS)

    def _sweep(self) -> None:
        with self._lock:
            left = {base: dict[str, int]() for base in sorted(self._promised)}
            left.update((base, dict(seen)) for base, seen in reversed(self._withdrawn.items()))
        trouble: AppflGcError | None = None
        for where in self._parts.places:
            try:
                for base, seen in left.items():
                    end = self._drop_all(base, where, ONCE, self._over)
                    if end < seen.get(where, 0):
                        self._drop_all(base, where, ONCE, self._over, seen[where])
            except AppflGcError as error:
                trouble = trouble or error
        self._parts.tidy()
        if trouble is not None:
            raise trouble
        for base in left:
            self._forget(base)

    def _drop_all(
        self, base: str, where: str, patience: Patience, stop: threading.Event, first: int = 0
    ) -> int:
        """Remove parts from number ``first``; they are put in order, so one that is missing ends them. Its number."""
        for number in range(first, MOST_PARTS):
            name = part_name(base, number)
            if not retry(functools.partial(self._parts.holds, name, where), WHAT, stop, patience):
                return number
            retry(functools.partial(self._parts.drop, name, where), WHAT, stop, patience)
        return MOST_PARTS

    def _forget(self, base: str) -> None:
        with self._lock:
            self._promised.discard(base)
            self._withdrawn.pop(base, None)
