"""The local control plane: slots on this machine, each client pinned to one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

from appfl_gc.control.local.engine import EngineSettings, check_platform
from appfl_gc.control.local.slot import Slot
from appfl_gc.control.plane import Capabilities, Listener
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.errors import ForgottenError
from appfl_gc.protocol.reply import Reply

# The engine's own limit on a result is 10 MiB of text, and base64 makes 4 bytes of 3.
INLINE_LIMIT = 7_500_000
LOCAL = Capabilities("local", INLINE_LIMIT, shared_file_system=True, reattach=False, cancel=True)


class LocalPlane:
    """Runs clients in ``slots`` worker processes of this machine.

    Args:
        clients: in configuration order; client i is pinned to slot i modulo ``slots``.
        slots: worker processes, at least one.
        settings: of the engines.
        heard: hears of calls that wait for their slot, and when it takes them.
    """

    def __init__(
        self,
        clients: Sequence[str],
        slots: int,
        settings: EngineSettings,
        heard: Listener = lambda progress: None,
    ) -> None:
        check_platform()
        names = [f"slot-{number}" for number in range(max(1, slots))]
        self._slots = [
            Slot(name, replace(settings, log=settings.log.with_name(f"{name}.log")), heard) for name in names
        ]
        self._slot_of = {client: self._slots[i % len(self._slots)] for i, client in enumerate(clients)}

    @property
    def capabilities(self) -> Capabilities:
        """What this control plane can do."""
        return LOCAL

    def task_group(self, call: Call) -> str:
        """Empty: nothing outlives this process."""
        return ""

    def submit(self, call: Call) -> Future[Reply]:
        """Run ``call`` in its client's slot."""
        return self._slot_of[call.identity.client].submit(call)

    def attach(self, call: Call, group: str, task: str) -> Future[Reply]:
        """See ``ControlPlane.attach``: workers here end with their server, so there is nothing to attach to."""
        forgotten: Future[Reply] = Future()
        forgotten.set_exception(ForgottenError("The worker on this machine ended with its server."))
        return forgotten

    def close(self) -> None:
        """End every worker at once."""
        for slot in self._slots:
            slot.close()
        for slot in self._slots:
            slot.join(timeout=10)
