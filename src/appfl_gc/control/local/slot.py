"""A slot: one engine, one thread, one call at a time."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from concurrent.futures import Future

from appfl_gc.control.local.engine import EngineSettings, LocalEngine
from appfl_gc.control.message import ReplyError, pack_task, read_reply, unpack_result
from appfl_gc.control.plane import CallState, Listener, Progress
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import AppflGcError, DeliveryError, WorkerLostError
from appfl_gc.protocol.reply import Reply

BUSY = "the workers of this machine are at work for other clients."

_Item = tuple[Call, "Future[Reply]", bool]


class Slot:
    """Runs the calls of the clients that are pinned to it, in order.

    Calls wait here and not in the engine: when a worker dies its engine is broken for good and every call in
    it is lost, so it never holds more than one. ``heard`` hears of a call that waits here, and when its turn comes.
    """

    def __init__(self, name: str, settings: EngineSettings, heard: Listener) -> None:
        self._settings = settings
        self._heard = heard
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._held = 0
        self._counting = threading.Lock()
        self._engine: LocalEngine | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Call) -> Future[Reply]:
        """Run ``call`` after those that wait; the future fails with ``DeliveryError`` only."""
        future: Future[Reply] = Future()
        with self._counting:
            waits = self._held > 0
            self._held += 1
        if waits:
            self._heard(Progress(call, CallState.WAITING_FOR_WORKER, BUSY))
        self._waiting.put((call, future, waits))
        return future

    def close(self) -> None:
        """End the worker at once; what waits or runs fails. Idempotent."""
        self._closing.set()
        self._waiting.put(None)
        self._kill_engine()

    def join(self, timeout: float) -> None:
        """Wait for the slot's thread, at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.2)
            self._kill_engine()  # a worker may have been starting when the first kill came

    def _kill_engine(self) -> None:
        engine = self._engine
        if engine is not None:
            engine.kill()

    def _serve(self) -> None:
        while (item := self._waiting.get()) is not None:
            call, future, waited = item
            answer = None
            if future.set_running_or_notify_cancel():
                if waited:
                    self._heard(Progress(call, CallState.RUNNING))
                answer = self._answer(call)
            with self._counting:  # before the answer is heard: what follows it finds the slot free
                self._held -= 1
            if isinstance(answer, Reply):
                future.set_result(answer)
            elif answer is not None:
                future.set_exception(answer)
        self._kill_engine()

    def _answer(self, call: Call) -> Reply | AppflGcError:
        try:
            return self._run(call)
        except AppflGcError as error:
            return error
        except Exception as error:  # noqa: BLE001  an engine's own failure must reach the caller
            return DeliveryError(f"The local engine failed: {error!r}.")

    def _run(self, call: Call) -> Reply:
        if self._closing.is_set():
            raise DeliveryError("The run is ending; the call was not started.")
        if self._engine is None:
            self._engine = LocalEngine(self._settings)
            if self._closing.is_set():
                raise DeliveryError("The run is ending; the call was not started.")
        task_id = uuid.uuid4()
        try:
            data = unpack_result(self._engine.run(task_id, pack_task(task_id, call)))
        except ReplyError:
            raise
        except DeliveryError as error:
            self._engine.kill()
            self._engine = None
            if self._closing.is_set():
                raise DeliveryError("The run is ending; the call was stopped.") from None
            log = f"What it wrote last is in {self._settings.log}. " if self._settings.log.exists() else ""
            raise WorkerLostError(
                f"The worker process ended before it replied. {error.message}",
                f"{log}Often memory ran out, or native code crashed.",
            ) from None
        return read_reply(data, call)
