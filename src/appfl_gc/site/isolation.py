"""Keeping what user code does to the process within one call."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Put back the working directory, the environment, ``sys.path``, ``sys.argv`` and warning filters."""
    directory, environment = os.getcwd(), dict(os.environ)
    path, arguments = list(sys.path), list(sys.argv)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            if dict(os.environ) != environment:
                for name in set(os.environ) - set(environment):
                    del os.environ[name]
                os.environ.update(environment)
            sys.path[:], sys.argv[:] = path, arguments
            Path(directory).mkdir(parents=True, exist_ok=True)  # user code may have removed it
            os.chdir(directory)
