"""The stores of a configuration: a small payload goes into each, comes back and is removed."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping

from appfl_gc.config import LOCAL, Federation
from appfl_gc.protocol.errors import AppflGcError
from appfl_gc.runner.doctor.row import Row, Subject, answer, named
from appfl_gc.runner.doctor.store_peers import peer_rows
from appfl_gc.runner.store_setup import Opened, StoreChoice, chosen_store


def choices_of(federation: Federation) -> Mapping[str, StoreChoice]:
    """The configured store of each client that has one."""
    server = federation.server_configs.comm_configs
    found = {client.client_id: chosen_store(client.comm_configs, server) for client in federation.clients}
    return {client: choice for client, choice in found.items() if choice is not None}


def without_store(federation: Federation, choices: Mapping[str, StoreChoice]) -> list[str]:
    """Clients at endpoints whose models have to fit into messages."""
    remote = [client.client_id for client in federation.clients if client.endpoint_id != LOCAL]
    return [client for client in remote if client not in choices]


def store_rows(
    subject: Subject, choices: Mapping[str, StoreChoice], tell: Callable[[str], None] = lambda _: None
) -> Iterator[Row]:
    """One row for each store, one for each of its warnings, and one for each endpoint that can't be reached.

    Args:
        subject: of the rows.
        choices: by client.
        tell: hears which store is tried.
    """
    clients: dict[str, list[str]] = {}
    for client, choice in choices.items():
        clients.setdefault(choice.key, []).append(client)
    works: set[str] = set()
    for choice in {choice.key: choice for choice in choices.values()}.values():
        tell(f"trying {choice.described}")
        stop = threading.Event()
        opened = answer(lambda: choice.open(f"doctor-{secrets.token_hex(4)}", stop))  # noqa: B023
        if isinstance(opened, AppflGcError):
            yield subject.failed("store", opened)
            continue
        works.add(choice.key)
        yield from _reached(subject, choice, clients[choice.key], opened)
    working = {client: choice for client, choice in choices.items() if choice.key in works}
    yield from peer_rows(subject, working, tell)


def _reached(subject: Subject, choice: StoreChoice, clients: list[str], opened: Opened) -> Iterator[Row]:
    try:
        opened.store.sweep()
    except AppflGcError as error:
        yield subject.failed("store", error)
        return
    finally:
        opened.store.close()
    yield subject.ok(
        "store",
        f"A small payload went to {choice.described} and back, from this machine; it serves {named(clients)}.",
    )
    for warning in opened.warnings:
        yield subject.warn("store", warning)
