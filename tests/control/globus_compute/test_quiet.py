"""What the SDK logs about a site's data is cleaned and stays off the terminal."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

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
        logging.getLogger(name).critical("%s", HOSTILE)
        assert len(records) == 2 and "hostile" not in "".join(capfd.readouterr())
    finally:
        root.handlers[:] = handlers


def test_the_end_of_one_leaves_another_its_records() -> None:
    records: list[logging.LogRecord] = []
    target = logging.Logger("target", logging.DEBUG)
    target.addHandler(_Keeping(records))
    first = QuietLibraries(logging.Logger("first")).__enter__()
    with QuietLibraries(target):
        first.__exit__(None, None, None)
        logging.getLogger(LOGGERS[0]).warning("here")
    assert [record.getMessage() for record in records] == [f"{LOGGERS[0]}: here"]


WITH_A_PLANE = f"""
import logging
from appfl_gc.control.globus_compute.plane import GlobusComputePlane, PlaneSettings
from globus_compute_sdk.sdk.executor import log

plane = GlobusComputePlane({{}}, PlaneSettings(), print)
log.warning({HOSTILE!r})
plane.close()
log.warning({HOSTILE!r})
logging.getLogger("of.the.program").warning("its own")
"""


def test_nothing_of_the_sdk_reaches_the_terminal_once_there_is_a_plane() -> None:
    done = subprocess.run([sys.executable, "-c", WITH_A_PLANE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "its own\n")


class _Keeping(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
