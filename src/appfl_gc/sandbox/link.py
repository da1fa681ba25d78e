"""The service's two connections to its broker: one that publishes, one that listens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pika
import pika.exceptions

from appfl_gc.sandbox.accounts import HEARTBEATS, RESULTS
from appfl_gc.sandbox.errors import ServiceError

log = logging.getLogger(__name__)
Handler = Callable[[str, bytes], None]


class Publisher:
    """Publishes with the broker's confirmation, and makes and removes queues; safe for use by several threads."""

    def __init__(self, url: str) -> None:
        """Connect to the broker when first needed; heartbeats are off, as nothing runs this connection's loop."""
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = 0
        self._lock = threading.Lock()
        self._channel: Any = None

    def publish(
        self, queue: str, body: bytes, headers: Mapping[str, Any] | None = None, command: bool = False
    ) -> None:
        """Put a message into a queue; raises ``ServiceError`` if the broker does not take it."""
        properties = pika.BasicProperties(
            delivery_mode=2,
            headers=dict(headers or {}),
            content_type="application/json" if command else None,
            timestamp=int(time.time()),
        )
        self._do(lambda channel: channel.basic_publish("", queue, body, properties, mandatory=True))

    def declare(self, queue: str) -> None:
        """Make a durable queue, if it is not there."""
        self._do(lambda channel: channel.queue_declare(queue, durable=True))

    def purge(self, queue: str) -> None:
        """Remove every waiting message of a queue."""
        self._do(lambda channel: channel.queue_purge(queue))

    def delete(self, queue: str) -> None:
        """Remove a queue; its consumers are told."""
        self._do(lambda channel: channel.queue_delete(queue))

    def waiting(self, queue: str) -> int:
        """How many messages of a queue nobody has taken."""
        return int(self._do(lambda channel: channel.queue_declare(queue, passive=True)).method.message_count)

    def _do(self, action: Callable[[Any], Any]) -> Any:
        with self._lock:
            try:
                return self._try(action)
            except pika.exceptions.AMQPError:
                log.info("the broker refused; a new connection is tried")
            try:
                return self._try(action)
            except pika.exceptions.AMQPError as error:
                raise ServiceError(
                    503, "BROKER_UNAVAILABLE", f"The broker refused: {type(error).__name__}."
                ) from error

    def _try(self, action: Callable[[Any], Any]) -> Any:
        channel, self._channel = self._channel, None
        if channel is None or not channel.is_open:
            channel = pika.BlockingConnection(self._parameters).channel()
            channel.confirm_delivery()
        done = action(channel)
        self._channel = channel
        return done


class Listener(threading.Thread):
    """Hands every result and heartbeat to a handler, with the name of the exchange it came by."""

    def __init__(self, url: str, on_result: Handler, on_heartbeat: Handler) -> None:
        """Prepare the thread; ``start`` begins to listen, it ends with the process."""
        super().__init__(name="broker-listener", daemon=True)
        self._url = url
        self._handlers = {RESULTS: on_result, HEARTBEATS: on_heartbeat}

    def run(self) -> None:
        """Listen; connect again when the connection was lost."""
        while True:
            try:
                self._listen()
            except pika.exceptions.AMQPError as error:
                log.warning("connection to the broker lost: %s", type(error).__name__)
                time.sleep(0.5)

    def _listen(self) -> None:
        channel = pika.BlockingConnection(pika.URLParameters(self._url)).channel()
        for queue, handler in self._handlers.items():
            channel.basic_consume(queue, self._callback(handler))
        channel.start_consuming()

    @staticmethod
    def _callback(handler: Handler) -> Callable[[Any, Any, Any, bytes], None]:
        def take(channel: Any, method: Any, _properties: Any, body: bytes) -> None:
            try:
                handler(method.exchange, body)
            except Exception:  # a bad message, or a bug here, must not stop all others
                log.exception("a message by %s could not be handled", method.exchange)
            channel.basic_ack(method.delivery_tag)

        return take
