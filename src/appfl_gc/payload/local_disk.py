"""What is wrong with this machine's disk while a payload arrives: nothing of the store's, so no use to try again."""

from __future__ import annotations

import errno
import socket
import tempfile
from pathlib import Path

from appfl_gc.protocol.errors import StorageError

_WORDS = {
    errno.ENOSPC: "no space is left on its file system",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a limit on the size of files is reached",
    errno.EROFS: "its file system can only be read",
    errno.EIO: "its disk has an input/output error",
    errno.ESTALE: "its network file system has lost the file",
}


def not_written(file: int, error: OSError) -> StorageError:
    """The error for one of the operating system's, raised while a payload was written into a file.

    Args:
        file: descriptor of the file, which tells its directory.
        error: what was raised.
    """
    why = _WORDS.get(error.errno or 0) or (error.strerror or type(error).__name__)
    return StorageError(
        f"An arriving payload can't be written into {_directory(file)} on the machine {socket.gethostname()}: {why}.",
        "Make room there. TMPDIR of the process on that machine chooses the directory for temporary files.",
    )


def _directory(file: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{file}").readlink().parent)
    except OSError:
        # Where there is no /proc.
        return f"its directory (for temporary files {tempfile.gettempdir()})"
