"""What a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.runner.run_directory import RunDirectory


@pytest.mark.parametrize("before", ["nothing", "another", "the same"])
def test_a_model_that_is_kept_leaves_no_second_name(tmp_path: Path, before: str) -> None:
    directory = RunDirectory.create(tmp_path, "run")
    directory.last.write_bytes(b"newest")
    if before == "another":
        directory.model.write_bytes(b"older")
    elif before == "the same":
        directory.keep_model(directory.last, directory.model)
    directory.keep_model(directory.last, directory.model)
    assert directory.model.read_bytes() == b"newest"
    assert not list(directory.path.glob("*.tmp"))
