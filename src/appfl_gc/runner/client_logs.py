"""What sites say in their logs, as far as the server keeps it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

MOST_BYTES = 10_000_000
"""Of a client's log at the server."""
LAST_LINE = (
    f"[This log has {MOST_BYTES // 1_000_000} MB; what its site says from here on is not kept by the server.]"
)


class ClientLogs:
    """A file for each client, which the lines that come with its replies are appended to until it is full.

    Args:
        file_of: the file of a client; its directory exists. One that is there already counts.
    """

    def __init__(self, file_of: Callable[[str], Path]) -> None:
        self._file_of = file_of
        self._room: dict[str, int] = {}

    def keep(self, client: str, lines: Iterable[str]) -> list[str]:
        """Append ``lines`` as far as there is room.

        Returns:
            the lines that were kept; after the last for which there was room comes ``LAST_LINE``, once.

        Raises:
            OSError: if the file can't be written.
        """
        path = self._file_of(client)
        room = self._room.get(client)
        if room is None:
            room = MOST_BYTES - (path.stat().st_size if path.exists() else 0)
        kept: list[str] = []
        for line in lines:
            if room <= 0:
                break
            room -= len(line.encode()) + 1
            kept.append(line if room > 0 else LAST_LINE)
        self._room[client] = room
        if kept:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in kept)
        return kept
