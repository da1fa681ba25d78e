"""Runs of a small federation on real local workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appfl_gc.runner.api import RunResult, run
from appfl_gc.runner.events import RunEvent
from tests.small_federation import SmallFederation


class Heard:
    """A callback that keeps every event, and may do something at one."""

    def __init__(self, act: Callable[[RunEvent], None] | None = None) -> None:
        self.events: list[RunEvent] = []
        self._act = act

    def on_event(self, event: RunEvent) -> None:
        self.events.append(event)
        if self._act is not None:
            self._act(event)

    def of(self, kind: type) -> list[RunEvent]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    return SmallFederation(tmp_path / "project")


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No policy of the machine's user reaches a test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("APPFL_GC_SITE_POLICY", raising=False)


def train(
    federation: SmallFederation, *overrides: str, heard: Heard | None = None, **options: object
) -> RunResult:
    """Write the files and run them."""
    server, clients = federation.write()
    callbacks = [] if heard is None else [heard]
    return run(server, clients, overrides=overrides, callbacks=callbacks, **options)  # type: ignore[arg-type]


def model_bits(result: RunResult) -> bytes:
    """The final model's file."""
    assert result.model_path is not None
    return result.model_path.read_bytes()
