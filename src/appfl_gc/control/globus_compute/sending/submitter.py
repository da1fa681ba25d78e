"""What one identity has in common: the registered function, the way results come, its task groups."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Literal

from appfl_gc.control.globus_compute.following.amqp_probe import AmqpProbe, probe
from appfl_gc.control.globus_compute.identity import Identity
from appfl_gc.control.globus_compute.rest.errors import ThrottledError
from appfl_gc.control.globus_compute.rest.patience import Patience, Tell
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.control.globus_compute.rest.turnstile import ClosingError, Turnstile
from appfl_gc.control.globus_compute.sending.sdk_internals import ResultWatchers
from appfl_gc.control.globus_compute.sending.task_groups import TaskGroups
from appfl_gc.control.message import entry_source
from appfl_gc.control.plane import CallState
from appfl_gc.protocol.errors import AppflGcError
from appfl_gc.protocol.wire import clean_text
from appfl_gc.site.entry import appfl_gc_entry

ResultMode = Literal["auto", "push", "poll"]

PROBE_AGAIN = 120.0


class Submitter:
    """One identity's side of the service.

    Args:
        identity: who submits.
        service: its REST side.
        patience: repeats its requests.
        turnstile: lets them through.
        function_id: UUID of the entry function, or None to register it.
        results: how results come.
        amqp_port: of the result queue, or None.
        logger: hears what happens.
    """

    def __init__(
        self,
        identity: Identity,
        service: ComputeService,
        patience: Patience,
        turnstile: Turnstile,
        function_id: str | None,
        results: ResultMode,
        amqp_port: int | None,
        logger: logging.Logger,
    ) -> None:
        self.identity = identity
        self.service = service
        self.patience = patience
        self.turnstile = turnstile
        self.push = results == "push"
        self.watchers = ResultWatchers()
        self._results = results
        self._amqp_port = amqp_port
        self._logger = logger
        self._function_id = function_id
        self._prepared = threading.Event()
        self._probed = 0.0
        self._groups = TaskGroups()
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether calls can be handed to Executors."""
        return self._prepared.is_set()

    @property
    def function_id(self) -> str:
        """UUID of the entry function; only once ``ready``."""
        if self._function_id is None:
            raise RuntimeError("The entry function is not registered yet.")
        return self._function_id

    def prepare(self, tell: Tell) -> None:
        """Register the entry function and find out how results come. Waits out what passes.

        Raises:
            AppflGcError: what the service finally refused.
        """
        if self._function_id is None:
            self._function_id = self.patience.request(
                "register the entry function",
                lambda: self.service.register(entry_source(), appfl_gc_entry.__name__),
                tell,
                lambda: None,
            )
        found = self.probe_results()
        if found is not None and not found.reachable:
            tell(CallState.SENDING, found.describe())
        self._prepared.set()

    def probe_results(self) -> AmqpProbe | None:
        """Find out whether results can be pushed; None where the configuration says how they come.

        One attempt: whatever goes wrong means that they are polled, until it is tried again.

        Raises:
            ClosingError: if the run ends.
        """
        if self._results != "auto":
            return None
        self._probed = time.monotonic()
        found = self._probe()
        if found.reachable != self.push or not found.reachable:
            self._logger.info("%s", found.describe())
        self.push = found.reachable
        return found

    def _probe(self) -> AmqpProbe:
        try:
            queue = self.service.result_queue()
        except ClosingError:
            raise
        except Exception as error:  # noqa: BLE001  results come without a push too
            if isinstance(error, ThrottledError):
                self.turnstile.throttled(error.retry_after)
            said = error.message if isinstance(error, AppflGcError) else type(error).__name__
            return AmqpProbe("", 0, said)
        return probe(queue.url, self._amqp_port)

    def push_broke(self, error: BaseException) -> None:
        """A connection for results ended for good; the calls in flight are polled."""
        text = " ".join(clean_text(f"{type(error).__name__}: {error}", 300).split())
        self._logger.info("Results are no longer pushed (%s); they are polled.", text)
        if self._results == "auto":
            self.push = False
            self._probed = time.monotonic()

    @property
    def probe_due(self) -> bool:
        """Whether to look again if results can be pushed."""
        old = time.monotonic() - self._probed > PROBE_AGAIN
        return self.ready and self._results == "auto" and not self.push and old

    def group(self, round_: int) -> str:
        """The task group for calls of ``round_``."""
        with self._lock:
            return self._groups.of(round_)

    def regrouped(self, old: str, new: str) -> None:
        """The service did not take our choice of a group, and made its own."""
        with self._lock:
            self._groups.replace(old, new)

    def retire_groups(self, in_use: Callable[[], set[str]]) -> None:
        """Close the connections of groups that are over. ``in_use``: the groups of open calls."""
        with self._lock:
            over = self._groups.ended(in_use())
        self.watchers.retire(over)

    def close(self) -> None:
        """Close every connection. Does not wait."""
        self.watchers.close()
        # A request that is under way holds the service's lock.
        threading.Thread(target=self.service.close, daemon=True).start()
