"""Keeps what libraries say about a site's data off the terminal."""

from __future__ import annotations

import logging
from types import TracebackType

from appfl_gc.protocol.wire import clean_text

LOGGERS = ("globus_compute_sdk", "globus_sdk", "pika", "urllib3")
LONGEST_LINE = 2000


class _Cleaned(logging.Handler):
    """Hands records on as one cleaned line each, below the level that Python prints without a handler."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__(logging.INFO)
        self._target = target

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises and never prints: the record may hold anything."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  a library's wrong format must not end its thread
            text = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        line = " ".join(clean_text(text, LONGEST_LINE).split())
        self._target.log(min(record.levelno, logging.INFO), "%s: %s", record.name, line)


class QuietLibraries:
    """While entered, log records of the SDK and its libraries go to ``target`` alone, cleaned; afterwards nowhere.

    Whatever propagates to the root logger, or meets none, would be printed as the site wrote it. Threads of the SDK
    outlive a run, so the loggers are not given back to the root logger in this process.
    """

    def __init__(self, target: logging.Logger) -> None:
        self._handler = _Cleaned(target)

    def __enter__(self) -> QuietLibraries:
        """Take the loggers over."""
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.handlers[:] = [self._handler]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write nothing more to ``target``. What another one has taken over stays with that one."""
        for name in LOGGERS:
            logger = logging.getLogger(name)
            if self._handler in logger.handlers:
                logger.handlers[:] = [logging.NullHandler()]
