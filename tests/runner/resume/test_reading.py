"""What is read of a journal of which only the beginning counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appfl_gc.protocol.schedule import UpdateId
from appfl_gc.runner.journal import Journal
from appfl_gc.runner.resume.reading import read_past
from appfl_gc.runner.run_directory import RunDirectory


def test_grants_of_attempts_that_do_not_count_any_more_are_known(tmp_path: Path) -> None:
    """A site that has the answer by such a grant sends that."""

    def sent(client: str, attempt: int, grant: str) -> dict[str, Any]:
        return {"client": client, "round": 1, "attempt": attempt, "version": 0, "grant": {"at": grant}}

    directory = RunDirectory(tmp_path)
    with Journal(directory.journal) as journal:
        journal.append(1.0, "dispatch", **sent("A", 1, "first"))
        journal.append(2.0, "retry", **sent("A", 2, "second"))
        journal.append(3.0, "dispatch", **sent("B", 1, "of B"))
    past = read_past(directory, before=2)
    assert past.last.number == 1
    assert (past.open["A"].grants, past.open["A"].sent_at) == (({"at": "first"},), 1.0)
    assert past.undone_grants == {UpdateId("A", 1): [{"at": "second"}], UpdateId("B", 1): [{"at": "of B"}]}
    assert set(past.open) == {"A"}
