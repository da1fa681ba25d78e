"""The file of Globus tokens that agents and the SDK share."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

TOKENS = "storage.db"


def make_token_file(directory: Path) -> None:
    """Make the file in ``directory`` in one step, unless it is there.

    The SDK makes it in two, a file and then its tables: another process that opens it between them fails. So two
    endpoints or runs that are the first ones of a home directory, started side by side, do not all start. Where the
    file system has no hard links, the SDK makes it.

    Raises:
        OSError: if nothing can be written there.
        sqlite3.Error: likewise.
    """
    path = directory / TOKENS
    if path.exists():
        return
    from globus_sdk.token_storage import SQLiteTokenStorage

    with tempfile.TemporaryDirectory(prefix=f".{TOKENS}.", dir=directory) as aside:
        whole = Path(aside, TOKENS)
        SQLiteTokenStorage(whole).close()
        with contextlib.suppress(OSError):  # FileExistsError: another process was first
            os.link(whole, path)
