"""ProxyStore's endpoints of a configuration, each asked through this machine's own one."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from appfl_gc.config.connectors import EndpointArguments, arguments
from appfl_gc.config.schema.block import thaw
from appfl_gc.config.schema.comm_configs import ProxystoreConfigs
from appfl_gc.payload.retry import Patience
from appfl_gc.protocol.errors import AppflGcError
from appfl_gc.runner.doctor.row import Row, Subject, answer, named
from appfl_gc.runner.store_setup import ConnectorChoice, StoreChoice

SECONDS = 40.0
"""For one endpoint's answer; a connection that can't be made takes ProxyStore 30 s."""
_AT_ONCE = 8


def peer_rows(
    subject: Subject, choices: Mapping[str, StoreChoice], tell: Callable[[str], None] = lambda _: None
) -> Iterator[Row]:
    """A failure for each endpoint of ProxyStore that does not answer, and a row about all that do.

    Args:
        subject: of the rows.
        choices: by client; what uses no such endpoints is passed over. The server's own endpoint works for them.
        tell: hears that they are asked.
    """
    groups: dict[str, dict[str, ConnectorChoice]] = {}
    for client, choice in choices.items():
        if isinstance(choice, ConnectorChoice) and choice.near.connector_type == "EndpointConnector":
            key = json.dumps(choice.near.plain(), sort_keys=True)
            groups.setdefault(key, {})[client] = choice
    for group in groups.values():
        tell("asking ProxyStore's endpoints")
        rows = answer(partial(_asked, subject, group))
        yield from [subject.failed("store", rows)] if isinstance(rows, AppflGcError) else rows


def _asked(subject: Subject, group: Mapping[str, ConnectorChoice]) -> list[Row]:
    """For clients to whom the server's side is the same."""
    from appfl_gc.payload.proxystore.endpoint.client import EndpointClient

    near = _arguments(next(iter(group.values())).near)
    users: dict[str, list[str]] = {str(place): [] for place in near.endpoints}
    for client, choice in group.items():
        for place in _arguments(choice.far).endpoints:
            users.setdefault(str(place), []).append(client)
    own = EndpointClient(
        list(users), near.proxystore_dir, threading.Event(), seconds=SECONDS, patience=Patience(tries=1)
    )
    peers = [place for place in users if place != own.own]
    name = f"check-{secrets.token_hex(16)}"
    with ThreadPoolExecutor(_AT_ONCE, "appfl-gc-doctor") as pool:
        said = list(pool.map(lambda peer: answer(partial(own.exists, name, peer)), peers))
    rows: list[Row] = []
    reached: list[str] = []
    for peer, found in zip(peers, said, strict=True):
        if not isinstance(found, AppflGcError):
            reached.append(peer)
            continue
        serves = f" It is configured for {named(users[peer])}." if users[peer] else ""
        rows.append(
            subject.fail("store", f"{found.message}{serves}", found.hint, found.error_class),
        )
    if reached:
        through = f"through this machine's own one, {own.own}"
        rows.append(subject.ok("store", f"ProxyStore's endpoints answer {through}: {named(reached)}."))
    return rows


def _arguments(configs: ProxystoreConfigs) -> EndpointArguments:
    found = arguments(str(configs.connector_type), thaw(configs.connector_configs))
    if not isinstance(found, EndpointArguments):
        raise TypeError(f"{type(found).__name__} are of another connector")
    return found
