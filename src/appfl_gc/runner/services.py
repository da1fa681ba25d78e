"""The Globus Compute service as each client's identity sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from threading import Event
from typing import TYPE_CHECKING

from appfl_gc.config import ClientConfig, Federation
from appfl_gc.config.places import ClientPlaces
from appfl_gc.protocol.errors import LoginError

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.identity import Identity
    from appfl_gc.control.globus_compute.rest.service import ComputeService

REQUESTS, SECONDS = 20, 10.0
"""What the service takes of one identity."""


def identity_of(
    client: ClientConfig, federation: Federation, tokens: tuple[str | None, str | None]
) -> Identity:
    """Who submits for ``client``: the application of its ``credentials``, else what the command line and login say.

    Args:
        client: at a Globus Compute endpoint.
        federation: whose clients' file says where a relative path starts.
        tokens: names of where tokens for Globus Compute and Globus Auth are, or None.

    Raises:
        LoginError: if the credentials can't be had; names the line and the client.
        UsageError: if a token's name names nothing.
    """
    # The SDK takes half a second to import.
    from appfl_gc.control.globus_compute.identity import default_identity, identity_from

    if client.settings.credentials is None:
        return default_identity(*tokens)
    home = federation.client_path.resolve().parent
    try:
        return identity_from(client.settings.credentials, [home, *home.parents])
    except LoginError as error:
        index = [one.client_id for one in federation.clients].index(client.client_id)
        where = ClientPlaces(federation.client_path).of(index, ("credentials",))
        raise LoginError(f"{where}: client {client.client_id}: {error.message}", error.hint) from None


@contextlib.contextmanager
def compute_services(identities: Mapping[str, Identity]) -> Iterator[Mapping[str, ComputeService]]:
    """A service for each client, asked no faster than it allows; clients with the same identity share one.

    All are closed in the end.

    Args:
        identities: by client.
    """
    from appfl_gc.control.globus_compute.rest.rate_limit import RateLimit
    from appfl_gc.control.globus_compute.rest.service import ComputeService
    from appfl_gc.control.globus_compute.rest.turnstile import Turnstile

    each = {
        identity: ComputeService(identity, turn=Turnstile(RateLimit(REQUESTS, SECONDS), Event()).turn)
        for identity in dict.fromkeys(identities.values())
    }
    with contextlib.ExitStack() as stack:
        for service in each.values():
            stack.callback(service.close)
        yield {client: each[identity] for client, identity in identities.items()}
