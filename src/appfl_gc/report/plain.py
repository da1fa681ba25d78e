"""Plain lines: one per event that matters, each with the time of run, for files, pipes and batch jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

from appfl_gc.protocol.wire import clean_text
from appfl_gc.report.endpoints import endpoint_lines, listed, waiting_text
from appfl_gc.report.figures import bytes_text, clock_text, metrics_text, moving_text, seconds_text
from appfl_gc.report.progress import Clock, RunProgress
from appfl_gc.runner.events import (
    ClientChanged,
    ClientFailed,
    ClientState,
    ClientTrained,
    EndpointRow,
    EndpointsChecked,
    Logged,
    PayloadMoving,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunStarted,
)

CLIENTS_NAMED = 20
MOVING_TOLD_EVERY = 10.0
"""Seconds between two lines about payloads that take their time."""


class PlainDisplay:
    """Writes lines without control characters.

    With more than ``CLIENTS_NAMED`` clients their readiness and updates are counted, not listed; failures
    always have their own line. ``level`` is the lowest level of the server's log lines shown; clients' lines
    show from WARNING on, or all of them if ``level`` is DEBUG.
    """

    def __init__(
        self, stream: TextIO, *, level: int = logging.INFO, quiet: bool = False, clock: Clock = time.monotonic
    ) -> None:
        """Write to ``stream``; ``quiet`` leaves only warnings and failures."""
        self._stream = stream
        self._level = level
        self._quiet = quiet
        self._progress = RunProgress(clock)
        self._ready: set[str] = set()
        self._queued: set[str] = set()
        self._failures: dict[str, str] = {}
        self._told_ready = False
        self._told_moving = -MOVING_TOLD_EVERY
        self._endpoints: tuple[EndpointRow, ...] = ()

    def __enter__(self) -> PlainDisplay:
        """Nothing to set up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""
        self._stream.flush()

    def on_event(self, event: RunEvent) -> None:
        """Write the lines of one event."""
        self._progress.apply(event)
        for line in self._lines(event):
            self._write(line)

    def _write(self, text: str) -> None:
        at = clock_text(self._progress.elapsed)
        for line in clean_text(text).expandtabs(4).split("\n"):
            self._stream.write(f"[{at}] {line}\n")
        self._stream.flush()

    def _lines(self, event: RunEvent) -> Iterator[str]:
        match event:
            case ClientFailed():
                yield from self._failed(event)
            case ClientChanged(state=ClientState.SET_ASIDE):
                told = self._failures.get(event.client) == event.detail
                yield f"{event.client} is set aside{'' if told else f': {event.detail}'}"
            case Logged() if self._shows(event):
                level = (
                    f"{logging.getLevelName(event.level).lower()}: " if event.level >= logging.WARNING else ""
                )
                yield f"{event.client}: {level}{event.message}" if event.client else f"{level}{event.message}"
            case _ if not self._quiet:
                yield from self._progress_lines(event)

    def _progress_lines(self, event: RunEvent) -> Iterator[str]:
        run = self._progress
        match event:
            case RunStarted():
                clients = f"{len(event.clients)} client{'' if len(event.clients) == 1 else 's'}"
                rounds = f"{event.epochs} {run.unit}{'' if event.epochs == 1 else 's'}"
                size = f"{event.parameters:,} parameters, {bytes_text(event.model_bytes)}"
                yield f"Run {event.run_id}: {clients}, {rounds}, model of {size}"
                yield f"Run directory: {event.run_dir}"
                if event.updates_done:
                    yield f"{run.done} of {rounds} were done before."
            case EndpointsChecked():
                yield from self._endpoint_lines(event)
            case RoundStarted():
                yield f"Round {event.round} of {run.epochs}"
            case ClientChanged():
                yield from self._changed(event)
            case PayloadMoving() if run.elapsed - self._told_moving >= MOVING_TOLD_EVERY:
                self._told_moving = run.elapsed
                yield moving_text(event)
            case ClientTrained() if len(run.clients) <= CLIENTS_NAMED:
                timing, steps = event.timing, f"{event.steps} step{'' if event.steps == 1 else 's'}"
                yield (
                    f"{run.task.capitalize()} {event.round}: {event.client} trained {steps}"
                    f" on {event.sample_size} samples{_metrics_text(event.metrics)};"
                    f" queue {seconds_text(timing.queue)}, compute {seconds_text(timing.compute)},"
                    f" transfer {seconds_text(timing.transfer)}"
                )
            case RoundFinished():
                left = run.seconds_left()
                ahead = f"; about {seconds_text(left)} left" if left and run.done < run.epochs else ""
                best = ", the best so far" if event.improved else ""
                yield (
                    f"{run.unit.capitalize()} {run.done} of {run.epochs} done in {seconds_text(event.seconds)}"
                    f"{_metrics_text(event.metrics)}{best}{ahead}"
                )

    def _endpoint_lines(self, event: EndpointsChecked) -> Iterator[str]:
        """All endpoints at first, then those that changed, and what is waited for."""
        changed, rest = listed([row for row in event.rows if row not in self._endpoints])
        if not self._endpoints:
            yield "Endpoints:"
        for line in [*endpoint_lines(changed), *([rest] if rest else [])]:
            yield f"  {line}"
        self._endpoints = event.rows
        if event.waits_for:
            yield waiting_text(event)

    def _shows(self, event: Logged) -> bool:
        if event.level >= logging.WARNING:
            return True
        if self._quiet or event.level < self._level:
            return False
        return not event.client or self._level <= logging.DEBUG

    def _changed(self, event: ClientChanged) -> Iterator[str]:
        clients = self._progress.clients
        if event.state is ClientState.RETRYING:
            yield f"{event.client} is tried again{f': {event.detail}' if event.detail else ''}"
        if (
            event.state is ClientState.QUEUED
            and event.client not in self._queued
            and len(clients) <= CLIENTS_NAMED
        ):
            self._queued.add(event.client)
            yield f"{event.client} waits{f': {event.detail}' if event.detail else ' for nodes'}"
        if event.state is not ClientState.READY or event.client in self._ready:
            return
        self._ready.add(event.client)
        if len(clients) <= CLIENTS_NAMED:
            yield f"{event.client} is ready{f': {event.detail}' if event.detail else ''}"
        elif len(self._ready) == len(clients) and not self._told_ready:
            self._told_ready = True
            yield f"All {len(clients)} clients are ready"

    def _failed(self, event: ClientFailed) -> Iterator[str]:
        self._failures[event.client] = event.error.message
        what = "failed" if event.final else "failed and may be tried again"
        task = self._progress.task
        when = f"{task.capitalize()} {event.round}" if event.round else f"Before the first {task}"
        yield f"{when}: {event.client} {what}: {event.error}"


def _metrics_text(metrics: Mapping[str, float]) -> str:
    text = metrics_text(metrics)
    return f": {text}" if text else ""
