"""The site's log: a file there, capped lines that travel back, and nothing that user code can flood."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest

from appfl_gc.protocol.wire import MAX_LOG_LINE, MAX_LOG_LINES
from appfl_gc.site import log as site_log
from appfl_gc.site.log import MAX_MESSAGE, MAX_PRINTED, PrintedText, SiteLog


def test_lines_go_to_the_file_and_travel_back(tmp_path: Path) -> None:
    path = tmp_path / "output" / "result_A_run.txt"
    log = SiteLog(path)
    log.logger.info("epoch %d", 1)
    log.close()
    assert log.lines == ("epoch 1",)
    assert path.read_text().endswith("INFO epoch 1\n")


def test_an_unwritable_log_file_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file")
    log = SiteLog(tmp_path / "output" / "result.txt")
    log.logger.info("goes on")
    assert len(log.lines) == 2
    assert "can't be written" in log.lines[0]


def test_endless_logs_are_capped_and_counted(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "log.txt")
    for number in range(MAX_LOG_LINES + 100):
        log.logger.info("%d %s", number, "x" * 10_000)
    assert len(log.lines) == MAX_LOG_LINES
    assert max(map(len, log.lines)) <= MAX_LOG_LINE
    assert "101 lines more are in" in log.lines[-1]


def test_an_endless_log_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_log, "MAX_FILE", 100_000)
    for call in range(3):
        log = SiteLog(tmp_path / "log.txt")
        with log.hears_everything():
            for number in range(3000):
                logging.getLogger("user").info("call %d line %d %s", call, number, "x" * 100)
        log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 100_000
    assert "call 2 line 2999" in (tmp_path / "log.txt").read_text(), "the latest lines are what is kept"


def test_one_endless_line_is_capped_in_the_file(tmp_path: Path) -> None:
    log = SiteLog(tmp_path / "log.txt")
    log.logger.info("%s", "x" * 30_000_000)
    log.close()
    assert (tmp_path / "log.txt").stat().st_size < MAX_MESSAGE + 1000


def test_a_full_disk_under_the_log_does_not_end_the_call() -> None:
    log = SiteLog(Path("/dev/full"))
    printed = PrintedText(log.logger)
    with contextlib.redirect_stderr(printed):
        for number in range(MAX_LOG_LINES + 10):
            log.logger.info("line %d", number)
    log.close()
    assert log.lines[0] == "line 0"
    assert log.lines[-1] == "[11 lines more were dropped: no log file at the site takes them]"


def test_megabytes_of_prints_are_capped() -> None:
    log = SiteLog(None)
    printed = PrintedText(log.logger)
    print("hello", file=printed)
    print("no line end", end="", file=printed)
    for _ in range(100):
        print("y" * 100_000, file=printed)
    printed.finish()
    assert log.lines[0] == "hello"
    assert sum(map(len, log.lines)) < MAX_PRINTED + 1000
    assert "characters more were printed" in log.lines[-1]


def test_the_logger_is_outside_the_logging_tree() -> None:
    logging.getLogger().handlers.clear()
    log = SiteLog(None)
    log.logger.info("still here")
    assert log.lines == ("still here",)


def test_what_user_code_logs_travels_and_its_handlers_do_not_stay() -> None:
    before = list(logging.getLogger().handlers), logging.getLogger().level
    for name in ("A", "B"):
        log = SiteLog(None)
        with log.hears_everything():
            logging.basicConfig(level=logging.INFO)
            logging.getLogger("user.module").info("line of %s", name)
        assert log.lines == (f"line of {name}",)
    assert (list(logging.getLogger().handlers), logging.getLogger().level) == before
