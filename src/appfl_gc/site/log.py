"""The site's log of one call: a file that the site keeps, and capped lines that travel back."""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

from appfl_gc.protocol.wire import MAX_LOG_LINE, MAX_LOG_LINES, clean_text

FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
MAX_PRINTED = 64_000
MAX_MESSAGE = 20_000
"""Characters of one message in the log file."""
MAX_FILE = 20_000_000
"""Bytes of the log file, and of the older one beside it, whose name ends in ``.1``."""


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        for line in record.getMessage().splitlines() or [""]:
            if len(self.lines) < MAX_LOG_LINES - 1:
                self.lines.append(clean_text(line, MAX_LOG_LINE - 100))
            else:
                self.dropped += 1


class _File(logging.handlers.RotatingFileHandler):
    """A log file that keeps the latest ``MAX_FILE`` bytes at least, and no more than twice that."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=MAX_FILE, backupCount=1, encoding="utf-8", errors="replace")
        self.setFormatter(FORMAT)
        self.failed = False

    def format(self, record: logging.LogRecord) -> str:
        """One record as text, capped."""
        text = super().format(record)
        return (
            text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]} [... {len(text) - MAX_MESSAGE} more]"
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; after one that could not be written no more are tried."""
        if not self.failed:
            super().emit(record)

    def close(self) -> None:
        """Close it; what it could not write is lost."""
        with contextlib.suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        """Note a full disk or the like. What would be printed here would come back as a line of this log."""
        self.failed = True


class SiteLog:
    """A logger of its own, outside the logging tree, that nothing in user code can reconfigure by accident.

    Args:
        path: the log file at the site, appended to; None for no file. When it can't be written, a warning
            among the lines says so and the call goes on. However much is logged, it takes twice ``MAX_FILE`` bytes
            at most.
    """

    def __init__(self, path: Path | None) -> None:
        self.logger = logging.Logger("appfl_gc.site", logging.INFO)
        self._lines = _Lines()
        self.logger.addHandler(self._lines)
        self._file: _File | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = _File(path)
            except OSError as error:
                self.logger.warning("The site's log file %s can't be written: %s.", path, error.strerror)
            else:
                self.logger.addHandler(self._file)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines so far, capped in number and length."""
        dropped, file = self._lines.dropped, self._file
        if dropped and (file is None or file.failed):
            return (
                *self._lines.lines,
                f"[{dropped} lines more were dropped: no log file at the site takes them]",
            )
        if dropped:
            return (
                *self._lines.lines,
                f"[{dropped} lines more are in the site's log file, as far as it has room]",
            )
        return tuple(self._lines.lines)

    @contextlib.contextmanager
    def hears_everything(self) -> Iterator[None]:
        """Take in what any logger says, of this program's modules or of user code, from INFO on.

        The root logger is afterwards as it was: a handler that user code installs in one call would
        otherwise write a later call's lines into this one's log.
        """
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        root.handlers[:] = self.logger.handlers
        # Only where it must be: setting a level empties the caches of all loggers.
        if level > logging.INFO:
            root.setLevel(logging.INFO)
        try:
            yield
        finally:
            root.handlers[:] = handlers
            if root.level != level:
                root.setLevel(level)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class PrintedText(io.TextIOBase):
    """What user code prints, as log lines; past ``MAX_PRINTED`` characters a call it is only counted."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._partial = ""
        self._seen = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Log every whole line of ``text``."""
        room = max(0, MAX_PRINTED - self._seen)
        self._seen += len(text)
        *lines, self._partial = (self._partial + text[:room]).split("\n")
        for line in lines:
            self._logger.info("%s", line)
        return len(text)

    def finish(self) -> None:
        """Log an unfinished line, and how much was dropped."""
        if self._partial:
            self._logger.info("%s", self._partial)
        if self._seen > MAX_PRINTED:
            self._logger.warning("%d characters more were printed and dropped.", self._seen - MAX_PRINTED)
