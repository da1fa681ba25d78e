"""Where everything that a run has to say goes: callbacks, the server's log and the clients' logs."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterable
from pathlib import Path

from appfl_gc.runner.client_logs import ClientLogs
from appfl_gc.runner.events import (
    Callback,
    ClientFailed,
    EndpointsChecked,
    Logged,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    RunStarted,
)
from appfl_gc.runner.run_directory import RunDirectory
from appfl_gc.site.log import FORMAT


class _ServerLog(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Let a full disk pass here: it is told once, by what the run itself can't write."""


class Recorder:
    """Tells callbacks and log files; a callback that fails is dropped and the run goes on.

    ``logger`` writes to the server's log alone; user code at the server gets it.

    Args:
        directory: of the run.
        published_log: the server log's published name, linked to ``server.log``; None for none.
        callbacks: heard in order.
    """

    def __init__(
        self, directory: RunDirectory, published_log: Path | None, callbacks: Iterable[Callback]
    ) -> None:
        self._client_logs = ClientLogs(directory.client_log)
        self._callbacks = list(callbacks)
        self.logger = logging.Logger("appfl_gc.server", logging.INFO)
        self._handler = _ServerLog(directory.server_log, encoding="utf-8")
        self._handler.setFormatter(FORMAT)
        self.logger.addHandler(self._handler)
        if published_log is not None and published_log != directory.server_log:
            published_log.unlink(missing_ok=True)
            published_log.symlink_to(directory.server_log.name)

    def tell(self, event: RunEvent) -> None:
        """Log ``event`` and hand it to every callback."""
        level, text = _describe(event)
        if text:
            self.logger.log(level, "%s", text)
        for callback in list(self._callbacks):
            try:
                callback.on_event(event)
            except Exception as error:  # noqa: BLE001  a tracker must not end a run
                self._callbacks.remove(callback)
                self.logger.error("%s", traceback.format_exc())
                self.log(
                    f"The callback {type(callback).__name__} failed ({error!r}) and is not called any more.",
                    logging.WARNING,
                )

    def log(self, message: str, level: int = logging.INFO) -> None:
        """A line of the server."""
        self.tell(Logged(message, level))

    def client_lines(self, client: str, lines: Iterable[str]) -> None:
        """Lines of a site's log that came with a reply; no more of them than ``ClientLogs`` has room for."""
        for line in self._client_logs.keep(client, lines):
            self.tell(Logged(line, client=client))

    def close(self) -> None:
        """Close the log, also on a full disk."""
        with contextlib.suppress(OSError):
            self._handler.close()


def _describe(event: RunEvent) -> tuple[int, str]:
    if isinstance(event, Logged):
        return event.level, f"[{event.client}] {event.message}" if event.client else event.message
    if isinstance(event, RunStarted):
        return logging.INFO, (
            f"Run {event.run_id}: {len(event.clients)} clients, {event.epochs} {event.counts.value} "
            f"(num_global_epochs), model of {event.parameters} parameters ({event.model_bytes} bytes), "
            f"directory {event.run_dir}"
        )
    if isinstance(event, EndpointsChecked):
        return logging.INFO, "\n".join(_endpoints(event))
    if isinstance(event, RoundStarted):
        return logging.INFO, f"Round {event.round} begins."
    if isinstance(event, RoundFinished):
        numbers = ", ".join(f"{name} {value:.6g}" for name, value in event.metrics.items())
        return logging.INFO, (
            f"Round {event.round} done in {event.seconds:.2f} s, {event.updates} client updates in all: {numbers}"
        )
    if isinstance(event, ClientFailed):
        fate = "It is not tried again." if event.final else "It is tried again."
        return (
            logging.ERROR if event.final else logging.WARNING,
            f"Client {event.client}, round {event.round}: {event.error} {fate}",
        )
    if isinstance(event, RunFinished):
        why = f": {event.error}" if event.error else ""
        return (
            logging.INFO,
            f"Run {event.outcome.value} after {event.rounds} rounds, {event.seconds:.1f} s{why}",
        )
    return logging.INFO, ""


def _endpoints(event: EndpointsChecked) -> list[str]:
    lines = []
    for row in event.rows:
        named = f"{row.endpoint_id} {row.name}".rstrip()
        lines.append(
            f"Endpoint {named} of {', '.join(row.clients)}: {row.state.value}. {row.detail}".rstrip()
        )
    if event.waits_for:
        lines.append(f"Waiting for {len(event.waits_for)} of them, at most {event.wait_seconds:.0f} s.")
    return lines
