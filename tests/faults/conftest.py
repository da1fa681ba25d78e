"""Servers that tests break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.nursery import Nursery


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file to which workers add a line for each training."""
    return tmp_path_factory.mktemp("trainings") / "lines"


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Servers in a home without anybody's policy."""
    directory = tmp_path_factory.mktemp("nursery")
    home = directory / "home"
    home.mkdir()
    environment = {"HOME": str(home), "APPFL_GC_SITE_POLICY": ""}
    with Nursery(directory, environment) as nursery:
        yield nursery
