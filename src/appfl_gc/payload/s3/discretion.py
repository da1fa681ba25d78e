"""What other packages must not log, whatever level the user's program sets: tokens, signatures, signed URLs.

Filters belong to one logger and don't hold for those below it, so each logger of these packages gets one. Levels
would not do: ``boto3.set_stream_logger`` and a program's own configuration set them again.
"""

from __future__ import annotations

import importlib.util
import logging
import pkgutil
from collections.abc import Iterator

_PACKAGES = ("botocore", "boto3", "s3transfer")


def keep_secrets() -> None:
    """Let boto3 write nothing below the level INFO: there it writes headers, with token and signature."""
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        for name in _modules(package, found.submodule_search_locations if found else None):
            # The same function is added once only.
            logging.getLogger(name).addFilter(_no_details)
    keep_urls()


def keep_urls() -> None:
    """Let urllib3 write no signed URL."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry", "urllib3.poolmanager"):
        logging.getLogger(name).addFilter(_unsigned)


def _modules(name: str, places: list[str] | None) -> Iterator[str]:
    """The module's name and those of all in it. Nothing is imported; the loggers are called as they."""
    yield name
    for found in pkgutil.iter_modules(places) if places else ():
        inner = [f"{place}/{found.name}" for place in places or ()] if found.ispkg else None
        yield from _modules(f"{name}.{found.name}", inner)


def _no_details(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO


def _unsigned(record: logging.LogRecord) -> bool:
    return "X-Amz-" not in record.getMessage()
