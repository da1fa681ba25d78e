from __future__ import annotations

import io

from rich.console import Console

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.report.diagnosis import diagnosis_json, print_diagnosis
from appfl_gc.runner.doctor.row import Subject

SITE = Subject("Endpoint of A: polaris")
ROWS = [
    Subject("This machine").ok("versions", "appfl_gc 0.1.0."),
    SITE.fail("status", "Offline.", "Start its agent.", ErrorClass.SERVICE),
    SITE.warn("agent", "It is [old]."),
    SITE.skipped("function", "It could not be asked."),
]


def drawn(width: int) -> list[str]:
    stream = io.StringIO()
    print_diagnosis(Console(file=stream, width=width, markup=False, emoji=False, highlight=False), ROWS)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_rows_stand_under_their_subject_with_the_fix_beneath() -> None:
    lines = drawn(100)
    assert [line for line in lines if line and not line.startswith(" ")][:2] == ["This machine", SITE.name]
    at = next(index for index, line in enumerate(lines) if "Offline." in line)
    assert lines[at].split() == ["FAILS", "status", "Offline."]
    assert lines[at + 1].strip() == "Fix: Start its agent."
    assert "It is [old]." in "\n".join(lines)
    assert lines[-1] == "1 check is fine, 1 warning, 1 not checked, 1 would make a run fail."


def test_it_fits_a_narrow_terminal() -> None:
    assert all(len(line) <= 60 for line in drawn(60)[:-1])


def test_the_document_has_every_row() -> None:
    document = diagnosis_json(ROWS, 6)
    rows = document["rows"]
    assert (document["ok"], document["exit_code"]) == (False, 6)
    assert isinstance(rows, list) and len(rows) == 4
    assert rows[1] == {
        "subject": SITE.name, "check": "status", "state": "fail", "finding": "Offline.",
        "fix": "Start its agent.", "error_class": "service",
    }  # fmt: skip
