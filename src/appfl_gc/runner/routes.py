"""How payloads travel between the server and each client: which stores, and how they are encoded there."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from appfl_gc.payload import coding
from appfl_gc.payload.codec import Layout
from appfl_gc.payload.coding import Coding
from appfl_gc.payload.mailbox.base import ServerMailbox
from appfl_gc.payload.stores import Stores
from appfl_gc.protocol.reference import Ref
from appfl_gc.protocol.wire import Json


@dataclass(frozen=True, eq=False)
class Route:
    """The way to one client or several.

    Attributes:
        stores: what both sides reach.
        model: how the global model is encoded.
    """

    stores: Stores
    model: Coding


class Routes:
    """The route of every client. Clients whose route is the same object share what is put there.

    Args:
        route_of: by client.
        update_of: how each client's update is encoded.
        update: what an update is.
    """

    def __init__(
        self, route_of: Mapping[str, Route], update_of: Mapping[str, Coding], update: Layout
    ) -> None:
        self._route_of = route_of
        self._update_of = update_of
        self._update = update
        self._abandoned = False

    @property
    def every(self) -> Sequence[Route]:
        """Each route once."""
        return list({id(route): route for route in self._route_of.values()}.values())

    def of(self, client: str) -> Route:
        """The route of ``client``."""
        return self._route_of[client]

    def update_of(self, client: str) -> Coding:
        """How the update of ``client`` is encoded."""
        return self._update_of[client]

    def grant(self, client: str, read: Sequence[Ref]) -> dict[str, Json]:
        """What ``client`` needs to fetch ``read`` and to put one update.

        Raises:
            TransferError: if the store can't be reached.
        """
        route, update = self._route_of[client], self._update_of[client]
        grant = route.stores.grant(read, coding.largest(self._update, update))
        for name, how in (("model_key", route.model), ("update_key", update)):
            if how.key is not None and route.stores.remote:
                grant[name] = base64.b64encode(how.key).decode()
        return grant

    def mailbox(self, client: str) -> ServerMailbox | None:
        """A new mailbox for one call of ``client``; None where no store that both sides reach has mailboxes.

        Raises:
            TransferError: if the store can't be reached.
        """
        return self._route_of[client].stores.mailbox()

    def mailbox_again(self, client: str, public: Mapping[str, Json]) -> ServerMailbox | None:
        """The mailbox of an earlier call of ``client``, from what the journal has of it (``ServerMailbox.public``).

        Raises:
            TransferError: if the store can't be reached, or never gave it.
        """
        return self._route_of[client].stores.mailbox(public)

    def compression(self, client: str) -> dict[str, Json]:
        """How ``client`` compresses its update, and how the model is compressed; as calls carry it."""
        both = {
            "update": self._update_of[client].compression,
            "model": self._route_of[client].model.compression,
        }
        return {name: how.to_json() for name, how in both.items() if how is not None}

    def abandon(self) -> None:
        """Another server has the run: what lies in the stores is its."""
        self._abandoned = True

    def close(self, tell: Callable[[str], None]) -> None:
        """The run is over: nothing of it stays in the stores, and connections end. ``tell`` hears what stays."""
        for route in self.every:
            try:
                if not self._abandoned:
                    route.stores.sweep()
            except Exception as error:  # noqa: BLE001  the run is over, and its result stands
                tell(f"What the run left in a store could not be removed. {error}")
            route.stores.close()
