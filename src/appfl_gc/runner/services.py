"""The Globus Compute service as each client's identity sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.identity import Identity
    from appfl_gc.control.globus_compute.service import ComputeService


@contextlib.contextmanager
def compute_services(identities: Mapping[str, Identity]) -> Iterator[Mapping[str, ComputeService]]:
    """A service for each client; clients with the same identity share one. All are closed in the end.

    Args:
        identities: by client.
    """
    # The SDK takes half a second to import.
    from appfl_gc.control.globus_compute.service import ComputeService

    each = {identity: ComputeService(identity) for identity in dict.fromkeys(identities.values())}
    with contextlib.ExitStack() as stack:
        for service in each.values():
            stack.callback(service.close)
        yield {client: each[identity] for client, identity in identities.items()}
