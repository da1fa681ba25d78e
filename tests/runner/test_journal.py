"""The journal is read back as it was written, and damage is told from a torn last line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appfl_gc.runner.journal import Journal, JournalError, read_journal

fields = st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.lists(st.integers()), max_size=3)


@settings(max_examples=50)
@given(records=st.lists(fields, max_size=5))
def test_records_come_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, object]]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal(path) as journal:
        for record in records:
            journal.append(1.5, "record", content=record)
    read = list(read_journal(path))
    assert [record.fields["content"] for record in read[1:]] == records
    assert [record.number for record in read] == list(range(len(records) + 1))


def test_what_is_flushed_is_on_disk_before_close(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(0.0, "dispatch", client="A")
    journal.flush()
    assert [record.kind for record in read_journal(tmp_path / "journal.jsonl")] == ["journal", "dispatch"]
    journal.close()


def test_a_torn_last_line_is_left_out_at_every_cut(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(0.0, "a")
        journal.append(0.0, "b")
    text = path.read_text()
    start = text.rindex("\n", 0, -1) + 1
    for cut in range(start, len(text) - 1):
        path.write_text(text[:cut])
        assert [record.kind for record in read_journal(path)] == ["journal", "a"]


def test_damage_elsewhere_is_an_error_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(0.0, "a", client="A")
        journal.append(0.0, "b")
    path.write_text(path.read_text().replace('"client":"A"', '"client":"B"'))
    with pytest.raises(JournalError, match=r"journal\.jsonl:2 does not match"):
        list(read_journal(path))
