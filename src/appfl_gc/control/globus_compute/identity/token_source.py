"""Where a token is read: an environment variable or a private file, never the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from appfl_gc.control.globus_compute.identity.private_file import read_private_file
from appfl_gc.protocol.errors import LoginError, UsageError


@dataclass(frozen=True)
class TokenSource:
    """The name of an environment variable, or the path of a file of mode 0600 with a token and nothing else."""

    name: str

    @classmethod
    def parse(cls, option: str, value: str) -> TokenSource:
        """What ``option`` was given.

        Raises:
            UsageError: if ``value`` names neither; it may be a token, so it is not repeated.
        """
        if value and (value in os.environ or Path(value).expanduser().exists()):
            return cls(value)
        raise UsageError(
            f"{option} takes the name of an environment variable or of a file of mode 0600. What it was given names "
            "neither. A token never belongs on a command line, where every user of this machine can read it.",
            "If it was a token, revoke it: it may have been seen. `appfl-gc login` needs no token at all.",
        )

    def read(self) -> str:
        """The token.

        Raises:
            LoginError: if there is none, or the file is not private.
        """
        text = os.environ.get(self.name)
        if text is None:
            text = read_private_file(Path(self.name).expanduser())
        token = text.strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise LoginError(
                f"{self.name} does not hold a token: one word of printable ASCII characters and nothing else."
            )
        return token
