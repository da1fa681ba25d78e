"""What `appfl-gc login --proxystore` and `appfl-gc endpoint check --proxystore` do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from appfl_gc.protocol.errors import LoginError, UsageError, VersionError

if TYPE_CHECKING:
    from appfl_gc.payload.proxystore.endpoint.check import Step
    from appfl_gc.payload.proxystore.endpoint.own import OwnEndpoint


def log_in(*, force: bool, domains: Sequence[str], collections: Sequence[str]) -> None:
    """Log in as ProxyStore's endpoints and its Globus connector do; `proxystore-globus-auth` shares the login.

    Args:
        force: also if there is a login.
        domains: sign in with an account of one of these domains.
        collections: UUIDs of the Globus collections that the connector may read and write.

    Raises:
        LoginError: if nobody logged in.
        UsageError: if a collection is no UUID.
        VersionError: if ProxyStore is not installed.
    """
    from globus_sdk.gare import GlobusAuthorizationParameters

    try:
        from proxystore.globus.app import get_user_app, is_client_login
        from proxystore.globus.scopes import get_all_scopes_by_resource_server
    except ImportError as error:
        raise VersionError(
            f"ProxyStore's login needs the package {error.name}, which is not installed here.",
            "Run in this Python environment: pip install -U proxystore",
        ) from None
    if is_client_login():
        click.echo(
            "PROXYSTORE_GLOBUS_CLIENT_ID and PROXYSTORE_GLOBUS_CLIENT_SECRET are set: no login is needed."
        )
        return
    for collection in collections:
        _check_uuid(collection)
    with _told(), get_user_app() as app:
        app.add_scope_requirements(get_all_scopes_by_resource_server(collections))
        wanted = GlobusAuthorizationParameters(session_required_single_domain=list(domains), prompt="login")
        if not (force or domains or app.login_required()):
            click.echo("Logged in for ProxyStore already. --force logs in again.")
            return
        app.login(auth_params=wanted if domains else None, force=True)
    click.echo(
        "Logged in for ProxyStore: its endpoints reach their relay, its Globus connector may transfer."
    )


@dataclass(frozen=True)
class ForWorkers:
    """What an endpoint's workers need in order to use a ProxyStore endpoint of the login node.

    Attributes:
        hosts: to be reached past the HTTP proxy of their nodes.
        environment: variables that lead them to its configuration.
    """

    hosts: tuple[str, ...]
    environment: Mapping[str, str]


def for_workers(name: str, facility: str) -> ForWorkers:
    """See ``ForWorkers``.

    Args:
        name: the ProxyStore endpoint, configured on this machine.
        facility: where the workers run.

    Raises:
        UsageError: if there is no such endpoint, or the workers could not reach it.
        VersionError: if ProxyStore is not installed.
    """
    from appfl_gc.hpc.endpoint.configure import on_this_node_only
    from appfl_gc.hpc.facility import load_facility
    from appfl_gc.payload.proxystore.endpoint.check import choose
    from appfl_gc.payload.proxystore.endpoint.own import home

    own, place = choose(name), home()
    if own.host is None:
        raise UsageError(
            f"The ProxyStore endpoint {own} was never started, so its address is not known yet.",
            f"Start it: `proxystore-endpoint start {own.name}`.",
        )
    if load_facility(facility).provider.batch:
        if own.host in ("localhost", "::1") or own.host.startswith("127."):
            raise UsageError(
                f"The ProxyStore endpoint {own} listens on {own.host}, which the nodes of jobs can't reach.",
                "Configure one with an address of this machine in the cluster's network: `proxystore-endpoint "
                "configure NAME --host ADDRESS`; `ip -brief address` shows them.",
            )
        if on_this_node_only(place.resolve()):
            raise UsageError(
                f"{place}, where the ProxyStore endpoint {own} is configured, is on this node only.",
                "Set PROXYSTORE_HOME to a directory of a shared file system, and configure the endpoint there.",
            )
    return ForWorkers((own.host,), {"PROXYSTORE_HOME": str(place)})


def check_endpoint(name: str | None, remote: str | None, size: int, form: str) -> bool:
    """Try an endpoint of this machine, and the way to a peer, and show time and rate of each step.

    Args:
        name: the endpoint, or None for the only one.
        remote: UUID of a peer, or None.
        size: bytes of the object that is moved.
        form: ``text`` or ``json``.

    Returns:
        whether all is well.

    Raises:
        UsageError: if there is no such endpoint, or several and no name.
        VersionError: if ProxyStore is not installed.
    """
    from appfl_gc.payload.proxystore.endpoint import check as checker

    own = checker.choose(name)
    steps = checker.check(own, remote, size=size)
    if form == "text":
        return _show(own, steps)
    rows = list(steps)
    click.echo(json.dumps({"endpoint": _as_json(own), "steps": [_row(step) for step in rows]}, indent=2))
    return not any(step.message for step in rows)


def _show(own: OwnEndpoint, steps: Iterator[Step]) -> bool:
    click.echo(f"ProxyStore endpoint {own} at {own.host or 'no host yet'}:{own.port}")
    click.echo(f"  relay {own.relay or 'none: it has no peers'}, objects up to {own.largest / 1e6:,.0f} MB")
    fine = True
    for step in steps:
        rate = "" if step.rate is None else f"{step.rate / 1e6:8,.1f} MB/s"
        moved = f" {step.size / 1e6:,.1f} MB" if step.size else ""
        result = "failed" if step.message else f"{step.seconds:8.3f} s {rate}".rstrip()
        click.echo(f"  {step.where:<36}  {step.what + moved:<14} {result}")
        if step.message:
            fine = False
            click.echo(f"Error: {step.message}")
            if step.hint:
                click.echo(f"  Hint: {step.hint}")
    return fine


def _as_json(own: OwnEndpoint) -> dict[str, object]:
    return {
        "name": own.name,
        "uuid": own.uuid,
        "host": own.host,
        "port": own.port,
        "largest": own.largest,
        "relay": own.relay,
    }


def _row(step: Step) -> dict[str, object]:
    return {
        "where": step.where,
        "what": step.what,
        "seconds": round(step.seconds, 6),
        "size": step.size,
        "bytes_per_second": None if step.rate is None else round(step.rate),
        "error": step.message,
        "hint": step.hint,
    }


def _check_uuid(text: str) -> None:
    import uuid

    try:
        uuid.UUID(text)
    except ValueError:
        raise UsageError(f"`{text[:60]}` is no UUID of a Globus collection.") from None


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What goes wrong in a conversation with Globus, in the user's terms."""
    import globus_sdk

    try:
        yield
    except (click.Abort, EOFError):
        raise LoginError(
            "No code was entered, so nobody is logged in.", "Run `appfl-gc login --proxystore` in a terminal."
        ) from None
    except globus_sdk.AuthAPIError as error:
        raise LoginError(
            f"Globus refused the login with status {error.http_status}.",
            "Paste the newest code as a whole. A high-assurance collection needs `--domain` instead of `--collection`.",
        ) from None
    except globus_sdk.NetworkError:
        raise LoginError(
            "Globus can't be reached, so nobody is logged in.",
            "Is this machine online? Is HTTPS_PROXY right?",
        ) from None
