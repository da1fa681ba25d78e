"""Reading a file that holds a secret: it must be ours and closed to everybody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from appfl_gc.protocol.errors import LoginError

MAX_BYTES = 65536


def read_private_file(path: Path) -> str:
    """The text of ``path``.

    Raises:
        LoginError: if it can't be read, belongs to somebody else, or others can read or write it.
            No message has anything of its content.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            _check(path, os.fstat(descriptor))
            return file.read(MAX_BYTES)
    except OSError as error:
        raise LoginError(f"The file {path} can't be read: {error.strerror}.") from None
    except ValueError:
        raise LoginError(f"The file {path} is not text.") from None


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise LoginError(f"{path} is not a file.")
    if status.st_uid != os.geteuid():
        raise LoginError(
            f"The file {path} with a secret belongs to another user (uid {status.st_uid}), who can change it.",
            "Copy it to a file of your own with `install -m 600`.",
        )
    if status.st_mode & 0o077:
        raise LoginError(
            f"The file {path} with a secret has mode {stat.S_IMODE(status.st_mode):04o}, so others can use it.",
            f"Run `chmod 600 {path}`; if the machine is shared, make a new secret, for this one may be known.",
        )
    if status.st_size > MAX_BYTES:
        raise LoginError(f"The file {path} has more than {MAX_BYTES} bytes, which is no secret.")
