"""How much a site keeps of one kind of file: checkpoints, clients' states, answers.

What was not used for long goes; then, where there is no room, what was used least lately. What was used within
``YOUNG_DAYS`` never goes for want of room: a task that waits in a queue goes on from it, and one client's need is no
reason to lose the work of another.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.site.policy import OutboxLimits

YOUNG_DAYS = 1.0
TORN_DAYS = 1.0
"""Nobody writes a single file for longer, or holds a claim without renewing it."""
_DAY = 86400.0


@dataclass(frozen=True, order=True)
class _Item:
    """A file with what goes with it: when it was last used, in seconds since 1970, and bytes."""

    used: float
    size: int
    path: Path


@dataclass(frozen=True)
class Room:
    """Files of one kind, in a folder for each run and in that one for each client.

    Attributes:
        directory: of all runs' folders.
        what: what the files are, in the plural, for the log.
        loss: what becomes of whoever needs one that is gone; a sentence for the log.
        suffix: of their names. What else is in the folders is left over from workers that were killed.
        beside: suffix of a second file that some of them have; None where there is none.
    """

    directory: Path
    what: str
    loss: str
    suffix: str
    beside: str | None = None

    def keep_within(
        self, limits: OutboxLimits, spared: Path | None, logger: logging.Logger | None = None
    ) -> None:
        """Forget what was not used for ``max_days``, then the least lately used, until ``max_bytes`` are enough.

        The files of all clients of the site count.

        Args:
            limits: of all of them together.
            spared: one that stays, however large and old.
            logger: hears what went, and of what there is no room for but which is too young to go.
        """
        now = time.time()
        items = self._items(left_over_before=now - TORN_DAYS * _DAY)
        expired, young = now - limits.max_days * _DAY, now - YOUNG_DAYS * _DAY
        total, gone = sum(item.size for item in items), list[_Item]()
        for item in sorted(items):
            crowded = total > limits.max_bytes and item.used < young
            if item.path != spared and (item.used < expired or crowded) and self._forget(item.path):
                total -= item.size
                gone.append(item)
        if logger is not None and gone:
            logger.warning("%s", self._told(gone, limits, now))
        if logger is not None and total > limits.max_bytes:
            logger.warning("%s", self._crowded(total, limits))

    def _items(self, left_over_before: float) -> list[_Item]:
        """What is kept; what is left over from before that time is removed."""
        items = []
        for path in self.directory.glob("*/*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.suffix == self.suffix:
                    items.append(_Item(status.st_mtime, status.st_size + self._size_beside(path), path))
                elif status.st_mtime < left_over_before and not self._goes_with_one(path):
                    path.unlink(missing_ok=True)
        return items

    def _size_beside(self, path: Path) -> int:
        second = self._second(path)
        return second.stat().st_size if second is not None and second.is_file() else 0

    def _second(self, path: Path) -> Path | None:
        return None if self.beside is None else path.with_suffix(self.beside)

    def _goes_with_one(self, path: Path) -> bool:
        return path.suffix == self.beside and path.with_suffix(self.suffix).exists()

    def _forget(self, path: Path) -> bool:
        second = self._second(path)
        try:
            path.unlink(missing_ok=True)
            if second is not None:
                second.unlink(missing_ok=True)
        except OSError:
            return False
        with contextlib.suppress(OSError):  # others are in it
            path.parent.rmdir()
            path.parent.parent.rmdir()
        return True

    def _told(self, gone: list[_Item], limits: OutboxLimits, now: float) -> str:
        size, days = sum(item.size for item in gone), (now - gone[-1].used) / _DAY
        return (
            f"The site has removed {len(gone)} of its {self.what} ({size:,} bytes, not used for {days:.1f} days or "
            f"longer), since it keeps {limits.max_bytes:,} bytes of them for {limits.max_days:g} days (max_bytes and "
            f"max_days under outbox in the site's policy file). {self.loss}"
        )

    def _crowded(self, total: int, limits: OutboxLimits) -> str:
        return (
            f"The site keeps {total:,} bytes of {self.what}, which is more than the {limits.max_bytes:,} of "
            "max_bytes (under outbox in the site's policy file): what was used within a day stays, since clients "
            "may go on from it."
        )
