"""Whoever opens the file of tokens finds it whole, however many make it at once."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from appfl_gc.hpc.endpoint import token_file
from appfl_gc.hpc.endpoint.token_file import TOKENS, make_token_file

READER = """
import sqlite3, sys
from pathlib import Path
path = Path(sys.argv[1])
print("ready", flush=True)
while not path.exists():
    pass
print(sqlite3.connect(path).execute("SELECT count(*) FROM token_storage").fetchone()[0])
"""


def test_it_is_whole_from_the_first_moment_on(tmp_path: Path) -> None:
    path = tmp_path / TOKENS
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    make_token_file(tmp_path)
    assert reader.communicate(timeout=30) == ("0\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.glob(f"*{TOKENS}*")) == [path]


def test_one_that_is_there_stays(tmp_path: Path) -> None:
    make_token_file(tmp_path)
    with sqlite3.connect(tmp_path / TOKENS) as connection:
        connection.execute("INSERT INTO token_storage VALUES ('me', 'compute', '{}')")
    make_token_file(tmp_path)
    with sqlite3.connect(tmp_path / TOKENS) as connection:
        assert connection.execute("SELECT count(*) FROM token_storage").fetchone() == (1,)


def test_one_that_another_process_made_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = token_file.os.link

    def late(source: Path, target: Path) -> None:
        target.write_text("of another process")
        real(source, target)

    monkeypatch.setattr(token_file.os, "link", late)
    make_token_file(tmp_path)
    assert (tmp_path / TOKENS).read_text() == "of another process"
