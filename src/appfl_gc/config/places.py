"""Where a client's values are written, for what only shows after the configuration is loaded."""

from __future__ import annotations

from pathlib import Path

from appfl_gc.config.diagnostic import ConfigError
from appfl_gc.config.document import Document, KeyPath, read_document, show_key


class ClientPlaces:
    """Finds lines in the clients' file; the file is read again at the first question."""

    def __init__(self, client_path: Path) -> None:
        self._path = client_path
        self._document: Document | None = None

    def of(self, index: int, path: KeyPath) -> str:
        """``file:line: key`` of the value at ``path`` of client ``index``, or of the nearest block around it."""
        whole: KeyPath = ("clients", index, *path)
        if self._document is None:
            try:
                self._document = read_document(self._path)
            except ConfigError:
                return f"{self._path}: {show_key(whole)}"
        return f"{self._document.mark(whole)}: {show_key(whole)}"
