"""The whole examination, in the order in which a person reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from appfl_gc.config import LOCAL, ClientConfig, Federation
from appfl_gc.protocol.errors import AppflGcError
from appfl_gc.runner.doctor.machine import machine_rows
from appfl_gc.runner.doctor.payloads import Sizes, file_store_row, limits_of, measure, size_rows
from appfl_gc.runner.doctor.remote import RemoteExamination
from appfl_gc.runner.doctor.row import Row, Subject, answer
from appfl_gc.runner.doctor.stores import choices_of, store_rows, without_store
from appfl_gc.runner.preflight import client_sites
from appfl_gc.runner.services import compute_services, identity_of

if TYPE_CHECKING:
    from appfl_gc.control.globus_compute.identity import Identity

MACHINE = Subject("This machine")
PAYLOADS = Subject("Payloads")


def examine(
    federation: Federation,
    tokens: tuple[str | None, str | None] = (None, None),
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Row]:
    """Check everything that can be checked without a job.

    Args:
        federation: the configuration.
        tokens: names of where tokens for Globus Compute and Globus Auth are, or None.
        tell: hears what is being done, a few words at a time.
    """
    yield from machine_rows(MACHINE, federation)
    remote = [client for client in federation.clients if client.endpoint_id != LOCAL]
    tell("building the model")
    yield from _payload_rows(federation, bool(remote), tell)
    # The SDK takes half a second to import.
    from appfl_gc.control.globus_compute.failing.quiet import QuietLibraries

    identities: dict[str, Identity] = {}
    for client in remote:
        found = _identity(client, federation, tokens)
        if isinstance(found, AppflGcError):
            yield Subject(f"Login of {client.client_id}").failed("login", found)
        else:
            identities[client.client_id] = found
    if identities:
        with QuietLibraries(logging.getLogger(__name__)), compute_services(identities) as services:
            yield from RemoteExamination(
                federation, client_sites(federation, services), services, tell
            ).rows()


def _identity(
    client: ClientConfig, federation: Federation, tokens: tuple[str | None, str | None]
) -> Identity | AppflGcError:
    return answer(lambda: identity_of(client, federation, tokens))


def _payload_rows(federation: Federation, remote: bool, tell: Callable[[str], None]) -> Iterator[Row]:
    limits = limits_of(federation)
    sizes = answer(lambda: measure(federation, limits))
    choices = choices_of(federation)
    if remote or isinstance(sizes, AppflGcError):
        yield from size_rows(PAYLOADS, sizes, limits, without_store(federation, choices))
    yield from store_rows(PAYLOADS, choices, tell)
    known = sizes.model if isinstance(sizes, Sizes) else None
    output = Path(federation.server_configs.logging_output_dirname)
    yield file_store_row(PAYLOADS, output, known, len(federation.clients))
