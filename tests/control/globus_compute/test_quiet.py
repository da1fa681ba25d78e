"""What the SDK logs about a site's data is cleaned and stays off the terminal."""

from __future__ import annotations

import logging
import re

import pytest

from appfl_gc.control.globus_compute.failing.quiet import LOGGERS, QuietLibraries

HOSTILE = "\x1b[2Jhostile\x07"


@pytest.mark.parametrize("name", [f"{name}.some.module" for name in LOGGERS])
def test_records_are_cleaned_and_lowered(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    target = logging.Logger("target", logging.DEBUG)
    records: list[logging.LogRecord] = []
    target.addHandler(_Keeping(records))
    root = logging.getLogger()
    handlers, root.handlers[:] = list(root.handlers), []
    try:
        with QuietLibraries(target):
            logger = logging.getLogger(name)
            logger.critical("%s", HOSTILE)
            try:
                raise ValueError(HOSTILE)
            except ValueError:
                logger.exception("wrong %s %s", HOSTILE)  # also a format that does not fit
        assert [record.levelno for record in records] == [logging.INFO] * 2
        for record in records:
            assert "hostile" in record.getMessage() and not re.search(r"[\x00-\x1f]", record.getMessage())
        assert "hostile" not in "".join(capfd.readouterr())
        library = logging.getLogger(name.split(".")[0])
        assert library.propagate and not [one for one in library.handlers if type(one).__name__ == "_Cleaned"]
    finally:
        root.handlers[:] = handlers


class _Keeping(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
