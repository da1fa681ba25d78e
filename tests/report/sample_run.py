"""The events of a small run, and a clock that tests move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from appfl_gc.protocol.errors import ErrorClass, ErrorReport
from appfl_gc.protocol.measures import Timing
from appfl_gc.runner.events import (
    ClientChanged,
    ClientFailed,
    ClientState,
    ClientTrained,
    Outcome,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    RunStarted,
)
from appfl_gc.scheduler.base import Counts

RUN_DIR = Path("/data/output/run-1")
LOST = ErrorReport(ErrorClass.WORKER_LOST, "The worker ended before it replied.", "Look at its memory.")
BUG = ErrorReport(
    ErrorClass.USER,
    "The dataset function raised ValueError: no data.",
    "Check the path.",
    frames=("dataset.py:12 in get_data",),
    trace="Traceback: line 1",
)


class Clock:
    """Seconds that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def started(clients: Sequence[str] = ("A", "B"), rounds: int = 3) -> RunStarted:
    return RunStarted("run-1", RUN_DIR, tuple(clients), rounds, 4_800_040, 1_199_882)


def trained(client: str, number: int, accuracy: float = 90.0, queue: float = 1.0) -> ClientTrained:
    metrics = {"train_loss": 0.4, "val_loss": 0.25, "val_accuracy": accuracy}
    return ClientTrained(client, number, 100, 2000, Timing(queue, 2.0, 0.5, 1.5), metrics)


def finished(
    outcome: Outcome = Outcome.FINISHED, rounds: int = 3, error: ErrorReport | None = None, model: bool = True
) -> RunFinished:
    model_path = RUN_DIR / "model.safetensors" if model else None
    return RunFinished(outcome, RUN_DIR, model_path, {"val_accuracy": 93.1}, 65.0, rounds, error)


def round_events(clients: Sequence[str], number: int, seconds: float = 4.0) -> list[RunEvent]:
    """One round in which every client trains."""
    events: list[RunEvent] = [RoundStarted(number)]
    for client in clients:
        events.append(ClientChanged(client, ClientState.WORKING, number, bytes_down=1_000_000))
        events.append(trained(client, number))
        events.append(ClientChanged(client, ClientState.ARRIVED, number, bytes_up=2_000_000))
    events.append(RoundFinished(number, seconds, {"val_loss": 0.25, "val_accuracy": 90.0}, improved=True))
    return events


def whole_run(clients: Sequence[str] = ("A", "B"), rounds: int = 3) -> list[RunEvent]:
    """A run that finishes."""
    events: list[RunEvent] = [started(clients, rounds)]
    events += [ClientChanged(client, ClientState.READY) for client in clients]
    for number in range(1, rounds + 1):
        events += round_events(clients, number)
    return [*events, finished(rounds=rounds)]


def set_aside(client: str, number: int = 1, error: ErrorReport = BUG) -> list[RunEvent]:
    return [
        ClientFailed(client, number, error, final=True),
        ClientChanged(client, ClientState.SET_ASIDE, number, error.message),
    ]


def updates_run(clients: Sequence[str] = ("A", "B"), epochs: int = 4) -> list[RunEvent]:
    """A run in which every update is folded when it comes: the clients take turns."""
    events: list[RunEvent] = [replace(started(clients, epochs), counts=Counts.UPDATES)]
    for number in range(1, epochs + 1):
        events.append(trained(clients[number % len(clients)], number))
        events.append(RoundFinished(number, 2.0, {"val_loss": 0.25}, improved=number == 1, updates=number))
    return [*events, finished(rounds=epochs)]
