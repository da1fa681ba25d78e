"""Every touch of the SDK's private names, in one place.

The public ``Executor`` never closes the AMQP connection of a finished task group, holds the process until every
open future is done, always pushes, and prints what a site says of its versions. A test names each name used here.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import pika
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import Result
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk import executor as sdk_executor
from globus_compute_sdk.sdk.batch import Batch

from appfl_gc.control.globus_compute.sending.serializer import Envelope
from appfl_gc.protocol.wire import clean_text

POLL_PERIOD = 0.1
"""Seconds between looks at what was pushed; the SDK's is 0.5."""

LONGEST_REFUSAL = 300
# Results that no future waits for; a site could send any number.
MOST_UNWATCHED = 64


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
    """Waits for pushed results of one task group; ends with the process."""

    def __init__(self, group: uuid.UUID, client: Client, port: int | None) -> None:
        super().__init__(group, client, poll_period_s=POLL_PERIOD, port=port)
        # The SDK's exit thread would wait for it.
        sdk_executor._RESULT_WATCHERS.pop(group, None)
        self.daemon = True
        self._loops: list[Any] = []

    @property
    def usable(self) -> bool:
        """Whether it takes more futures."""
        return self.is_alive() and not (self._closed or self._time_to_stop)

    def run(self) -> None:
        """As the SDK's, closing what each attempt to connect has opened."""
        try:
            super().run()
        finally:
            for loop in self._loops:
                loop.close()

    def watch_for_task_results(self, executor: Executor, futures: Sequence[Any]) -> int:
        """As the SDK's; what comes while it ends is polled."""
        try:
            return int(super().watch_for_task_results(executor, futures))
        except self.ShuttingDownError:
            return 0

    def _connect(self) -> Any:
        """The SDK's holds the lock of the futures during a request, and whoever ends or feeds it would wait."""
        queue = self.client.get_result_amqp_url()
        self._queue_prefix = queue["queue_prefix"]
        address = pika.URLParameters(queue["connection_url"])
        if self.port is not None:
            address.port = self.port
        connection = pika.SelectConnection(
            address,
            on_open_callback=self._on_connection_open,
            on_open_error_callback=self._on_open_failed,
            on_close_callback=self._on_connection_closed,
        )
        self._loops.append(connection.ioloop)
        return connection

    def _on_message(self, channel: Any, delivery: Any, properties: Any, body: bytes) -> None:
        """Keep a result. The SDK has invalid ones sent again without end; polling fetches those."""
        try:
            result = messagepack.unpack(body)
            if not isinstance(result, Result):
                raise TypeError(f"{type(result).__name__} is not a result")
        except Exception as error:  # noqa: BLE001  a site made it up; it may break the reader in any way
            why = " ".join(clean_text(f"{type(error).__name__}: {error}", LONGEST_REFUSAL).split())
            logging.getLogger("appfl_gc.globus_compute").info("A pushed result is invalid (%s).", why)
            channel.basic_nack(delivery.delivery_tag, requeue=False)
            return
        # A result may come before the answer that names its task.
        unwatched = [task for task in self._received_results if task not in self._open_futures]
        if len(unwatched) >= MOST_UNWATCHED:
            del self._received_results[unwatched[0]]
        self._received_results[str(result.task_id)] = (properties, result)
        self._to_ack.append(delivery.delivery_tag)
        self._time_to_check_results.set()

    def retire(self) -> None:
        """End the connection soon, whatever is still open. Does not wait.

        The SDK's ``shutdown`` starts a thread that outlives the program while a future is open.
        """
        with self._new_futures_lock:
            self._closed = True
            self._open_futures.clear()
            self._open_futures_empty.set()
        self._time_to_stop = True


class _NoWatcher:
    """Stands where results are polled."""

    ShuttingDownError = sdk_executor._ResultWatcher.ShuttingDownError

    def watch_for_task_results(self, executor: Executor, futures: Sequence[Any]) -> int:
        """Watch nothing."""
        return 0


class ResultWatchers:
    """The AMQP connections of one identity, one a task group. Thread safe; waits for no request.

    The SDK's own registry is not locked, and its exit thread waits for whatever is in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watcher_of: dict[str, _Watcher] = {}
        self._closed = False

    def of(self, group: uuid.UUID, client: Client, port: int | None) -> _Watcher | _NoWatcher:
        """What watches ``group``: nothing once closed."""
        with self._lock:
            if self._closed:
                return _NoWatcher()
            known = self._watcher_of.get(str(group))
            if known is not None and known.usable:
                return known
            watcher = self._watcher_of[str(group)] = _Watcher(group, client, port)
            watcher.start()
            return watcher

    def retire(self, groups: Iterable[str]) -> None:
        """Close the connections of ``groups``, where they have one."""
        with self._lock:
            ended = [self._watcher_of.pop(group) for group in groups if group in self._watcher_of]
        for watcher in ended:
            watcher.retire()

    def close(self) -> None:
        """Close every connection, and open none any more."""
        with self._lock:
            self._closed = True
            groups = list(self._watcher_of)
        self.retire(groups)


class PlaneExecutor(Executor):  # type: ignore[misc]
    """The SDK's Executor for one task group, pushing on demand; never holds the process.

    Args:
        push: whether to open an AMQP connection for results.
        watchers: of the identity.
        settings: of the SDK's Executor.
    """

    def __init__(self, *, push: bool, watchers: ResultWatchers, **settings: Any) -> None:
        self._push = push
        self._watchers = watchers
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
        return self._watchers.of(self.task_group_id, self.client, self.amqp_port)
