"""Every touch of the SDK's private names, in one place.

The public ``Executor`` never closes the AMQP connection of a finished task group, holds the process until every
open future is done, always pushes, and prints what a site says of its versions. A test names each name used here.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from typing import Any

from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.sdk.batch import Batch

from appfl_gc.control.globus_compute.sending.serializer import Envelope

POLL_PERIOD = 0.1
"""Seconds between looks at what was pushed; the SDK's is 0.5."""


class QuietClient(Client):  # type: ignore[misc]  # the SDK has no types
    """A client that prints nothing that a site or the service wrote, and leaves retries to its owner."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for api in (self._compute_web_client.v2, self._compute_web_client.v3):
            api.retry_config.max_retries = 1  # one is needed to renew an access token

    def _log_version_mismatch(self, worker_details: dict[str, Any] | None) -> None:
        """Nothing: plain source and JSON do not depend on the site's Python."""

    def _raise_ha_warning(self, response_data: Any) -> None:
        """Nothing."""


class CallBatch(Batch):  # type: ignore[misc]
    """A request that remembers which calls it carries, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.envelopes: list[Envelope] = []

    def add(
        self, function_id: Any, args: tuple[Any, ...] | None = None, kwargs: dict[str, Any] | None = None
    ) -> None:
        """As the SDK's, for one ``Envelope``."""
        super().add(function_id, args, kwargs)
        self.envelopes.extend(item for item in args or () if isinstance(item, Envelope))


class _Watcher(sdk_executor._ResultWatcher):  # type: ignore[misc]
    """Waits for pushed results; ends with the process."""

    def __init__(self, group: uuid.UUID, client: Client, port: int | None) -> None:
        super().__init__(group, client, poll_period_s=POLL_PERIOD, port=port)
        self.daemon = True
        self._loops: list[Any] = []

    def run(self) -> None:
        """As the SDK's, closing what each attempt to connect has opened."""
        try:
            super().run()
        finally:
            for loop in self._loops:
                loop.close()

    def _connect(self) -> Any:
        connection = super()._connect()
        self._loops.append(connection.ioloop)
        return connection

    def retire(self) -> None:
        """End the connection soon, whatever is still open. Does not wait.

        The SDK's ``shutdown`` starts a thread that outlives the program while a future is open.
        """
        with self._new_futures_lock:
            self._closed = True
            self._open_futures.clear()
            self._open_futures_empty.set()
        self._time_to_stop = True
        if sdk_executor._RESULT_WATCHERS.get(self.task_group_id) is self:
            del sdk_executor._RESULT_WATCHERS[self.task_group_id]


class _NoWatcher:
    """Stands where results are polled."""

    ShuttingDownError = sdk_executor._ResultWatcher.ShuttingDownError

    def watch_for_task_results(self, executor: Executor, futures: Sequence[Any]) -> int:
        """Watch nothing."""
        return 0


class PlaneExecutor(Executor):  # type: ignore[misc]
    """The SDK's Executor for one task group, pushing on demand; never holds the process.

    Args:
        push: whether to open an AMQP connection for results.
        settings: of the SDK's Executor.
    """

    def __init__(self, *, push: bool, **settings: Any) -> None:
        self._push = push
        super().__init__(**settings)
        # The SDK would shut it down, and wait, when the program ends; `retire` does it in time.
        sdk_executor._REGISTERED_EXECUTORS.pop(id(self), None)

    @property
    def dead(self) -> bool:
        """Whether it takes no more calls: any refused request ends an Executor."""
        return bool(self._stopped) or not self._task_submitter.is_alive()

    def retire(self) -> None:
        """End its thread soon; what it has not sent is cancelled. Does not wait."""
        if not self._stopped:
            threading.Thread(
                target=self.shutdown, kwargs={"wait": False, "cancel_futures": True}, daemon=True
            ).start()

    def _get_result_watcher(self) -> Any:
        if not self._push:
            return _NoWatcher()
        found = sdk_executor._RESULT_WATCHERS.get(self.task_group_id)
        if found is None or not found.is_alive() or found._closed:
            found = _Watcher(self.task_group_id, self.client, self.amqp_port)
            found.start()
        return found


def retire_watcher(group: str) -> None:
    """Close the AMQP connection of a task group, if it has one."""
    watcher = sdk_executor._RESULT_WATCHERS.get(uuid.UUID(group))
    if isinstance(watcher, _Watcher):
        watcher.retire()
