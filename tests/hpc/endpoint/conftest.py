"""A home and a directory of endpoints that are the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.hpc.endpoint import configure


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.fixture
def endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of endpoints; pytest's /tmp counts as a file system that compute nodes see."""
    monkeypatch.setattr(configure, "_NODE_LOCAL", (str(tmp_path / "node_local"),))
    directory = tmp_path / "endpoints"
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(directory))
    return directory
