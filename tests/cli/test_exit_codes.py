from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from appfl_gc.cli.exit_codes import ExitCode, of_class, of_exception, of_outcome
from appfl_gc.protocol.errors import ErrorClass, NotSupportedError, UserCodeError
from appfl_gc.runner.events import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"


def test_the_page_and_the_codes_agree() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.+?) \| (.+?) \|$", PAGE.read_text("utf-8"), re.M)
    assert rows == [(str(code.value), code.name, code.meaning, code.advice) for code in ExitCode]


def test_every_class_of_failure_has_a_code_that_is_not_success() -> None:
    codes = {error_class: of_class(error_class) for error_class in ErrorClass}
    assert ExitCode.FINISHED not in codes.values() and ExitCode.PARTIAL not in codes.values()
    assert codes[ErrorClass.USER] is ExitCode.USER_CODE
    assert codes[ErrorClass.STORAGE] is ExitCode.CANNOT_WRITE
    worth_a_resume = {ExitCode.INFRASTRUCTURE, ExitCode.LATE, ExitCode.QUEUE_LIMIT, ExitCode.WALLTIME}
    assert {codes[found] for found in ErrorClass if found.infrastructure} == worth_a_resume
    assert not {codes[found] for found in ErrorClass if not found.infrastructure} & worth_a_resume


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.FINISHED, 0), (Outcome.PARTIAL, 3), (Outcome.INTERRUPTED, 130), (Outcome.FAILED, 4)],
)
def test_an_outcome_has_its_code(outcome: Outcome, code: int) -> None:
    assert of_outcome(outcome, ErrorClass.USER) == code


def test_a_failure_without_a_class_is_a_bug() -> None:
    assert of_outcome(Outcome.FAILED) is ExitCode.INTERNAL


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotSupportedError("x"), ExitCode.CONFIGURATION),
        (UserCodeError("x"), ExitCode.USER_CODE),
        (PermissionError(errno.EACCES, "denied", "/root/x"), ExitCode.CANNOT_WRITE),
        (OSError(errno.ENOSPC, "no space"), ExitCode.CANNOT_WRITE),
        (OSError(errno.ECONNRESET, "reset"), ExitCode.INTERNAL),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ZeroDivisionError(), ExitCode.INTERNAL),
    ],
)
def test_an_exception_has_its_code(error: BaseException, code: ExitCode) -> None:
    assert of_exception(error) is code
