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
    try:
        descriptor, errors = original.fileno(), sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # replaced by an object without a file, as tests do
        with contextlib.redirect_stdout(sys.stderr):
            yield original
        return
    original.flush()
    kept = os.dup(descriptor)
    with open(kept, "w", encoding="utf-8", newline="\n", closefd=False) as stream:
        os.dup2(errors, descriptor)
        try:
            yield stream
        finally:
            original.flush()
            os.dup2(kept, descriptor)
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
            os.close(kept)
