"""Several control planes behind one face: each client by its own."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future

from appfl_gc.control.plane import Capabilities, ControlPlane
from appfl_gc.protocol.call import Call
from appfl_gc.protocol.reply import Reply


class RoutedPlane:
    """Sends each call over the control plane of its client.

    Args:
        plane_of: by client; not empty.
    """

    def __init__(self, plane_of: Mapping[str, ControlPlane]) -> None:
        self._plane_of = dict(plane_of)
        self._planes = list({id(plane): plane for plane in plane_of.values()}.values())

    @property
    def capabilities(self) -> Capabilities:
        """What all of them can do."""
        each = [plane.capabilities for plane in self._planes]
        return Capabilities(
            " and ".join(one.name for one in each),
            min(one.inline_limit for one in each),
            shared_file_system=all(one.shared_file_system for one in each),
            reattach=all(one.reattach for one in each),
            cancel=all(one.cancel for one in each),
        )

    def task_group(self, call: Call) -> str:
        """See ``ControlPlane.task_group``."""
        return self._plane_of[call.identity.client].task_group(call)

    def submit(self, call: Call) -> Future[Reply]:
        """See ``ControlPlane.submit``."""
        return self._plane_of[call.identity.client].submit(call)

    def attach(self, call: Call, group: str, task: str) -> Future[Reply]:
        """See ``ControlPlane.attach``."""
        return self._plane_of[call.identity.client].attach(call, group, task)

    def close(self) -> None:
        """Close every one, also when one fails to."""
        errors: list[Exception] = []
        for plane in self._planes:
            try:
                plane.close()
            except Exception as error:  # noqa: BLE001  the others must be closed too
                errors.append(error)
        if errors:
            raise errors[0]
