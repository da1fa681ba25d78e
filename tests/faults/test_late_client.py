"""A round that closes early stops the client that is late: its worker takes the next call at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.protocol.errors import ErrorClass
from appfl_gc.runner.api import run
from appfl_gc.runner.events import ClientFailed, Outcome, RoundFinished, RunEvent
from tests.runner.conftest import Heard
from tests.small_federation import MODEL, SmallFederation

LONG = 200_000
"""Steps that take minutes."""

SLOW_STEP = "    def forward(self, x):\n        __import__('time').sleep(0.5)\n"


def test_the_time_that_a_client_waits_for_a_worker_of_this_machine_does_not_make_it_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    federation = SmallFederation(tmp_path, clients=4, rounds=1)
    federation.model = MODEL.replace("    def forward(self, x):\n", SLOW_STEP)
    federation.train |= {"num_local_steps": 3, "do_validation": False}
    federation.server["control_configs"] = {"slots": 1}
    federation.server["fault_tolerance_configs"] = {"quorum": 1, "deadline_seconds": 5}
    heard = Heard()
    result = run(*federation.write(), callbacks=[heard])
    assert (result.outcome, heard.of(ClientFailed)) == (Outcome.FINISHED, [])
    (last,) = heard.of(RoundFinished)
    assert last.seconds > 5, "the last client was heard after the deadline of the first"


def test_the_worker_of_a_late_client_is_free_for_the_next_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("APPFL_GC_SITE_LOOK_SECONDS", "0.1")
    federation = SmallFederation(tmp_path, clients=2, rounds=3)
    federation.client[1] = {"train_configs": {"num_local_steps": LONG}}
    # Both clients share one worker, so no later round can end while the late one trains.
    federation.server["control_configs"] = {"slots": 1}
    federation.server["fault_tolerance_configs"] = {"quorum": 1, "deadline_seconds": 3}
    checkpoints: list[Path] = []

    def look(event: RunEvent) -> None:
        if isinstance(event, RoundFinished):
            checkpoints.extend(tmp_path.glob("output/*/local/**/*.checkpoint"))

    heard = Heard(look)
    result = run(*federation.write(), callbacks=[heard])
    assert (result.outcome, result.rounds) == (Outcome.PARTIAL, 3)
    failures = heard.of(ClientFailed)
    assert [(f.client, f.error.error_class) for f in failures] == [("Client2", ErrorClass.LATE)]
    assert checkpoints, "it was stopped, and did not just come to its end"
    assert not list((result.run_dir / "payloads").glob("*")), "no mark and no progress is left"
