"""Keep stdout for this program's own lines: what libraries, user code and workers print goes to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def owned_stdout() -> Iterator[TextIO]:
    """Yield a stream to the real stdout while file descriptor 1 and ``sys.stdout`` lead to stderr."""
    original = sys.stdout
    if (original, sys.stderr) != (sys.__stdout__, sys.__stderr__):
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # somebody holds the streams, as tests do: swap names only
            yield original
        return
    original.flush()
    descriptor = original.fileno()
    kept = os.dup(descriptor)
    with open(kept, "w", encoding="utf-8", errors="backslashreplace", newline="\n", closefd=False) as stream:
        os.dup2(sys.stderr.fileno(), descriptor)
        try:
            yield stream
        finally:
            original.flush()
            os.dup2(kept, descriptor)
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
    os.close(kept)
