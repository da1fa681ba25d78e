"""``appfl-gc login``, ``whoami`` and ``logout``: the same login as `globus-compute-endpoint`'s."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from appfl_gc.cli.program import Program
from appfl_gc.protocol.errors import LoginError, UsageError

if TYPE_CHECKING:
    from globus_sdk import GlobusApp

    from appfl_gc.control.globus_compute.identity import Identity
    from appfl_gc.control.globus_compute.identity.user_login import UserLogin
    from appfl_gc.control.globus_compute.rest.service import Account

credentials_option = click.option(
    "--credentials",
    metavar="P|FILE",
    help="A Globus application, named as in clients[].credentials, instead of the login.",
)


@click.command("login", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--force", is_flag=True, help="Log in again although the present login is good.")
@click.option(
    "--domain", "domains", multiple=True, help="Sign in with an account of this domain. Repeatable."
)
@click.option("--identity", "identities", multiple=True, help="Sign in as this identity. Repeatable.")
@click.option("--policy", "policies", multiple=True, help="Meet this authentication policy. Repeatable.")
@click.option("--mfa", is_flag=True, help="Sign in with a second factor.")
@click.option(
    "--proxystore", is_flag=True, help="Log in for ProxyStore's endpoints and its Globus connector instead."
)
@click.option(
    "--collection",
    "collections",
    metavar="UUID",
    multiple=True,
    help="With --proxystore: a Globus collection that the connector may use. Repeatable.",
)
@credentials_option
def login(
    force: bool,
    domains: Sequence[str],
    identities: Sequence[str],
    policies: Sequence[str],
    mfa: bool,
    proxystore: bool,
    collections: Sequence[str],
    credentials: str | None,
) -> None:
    """Log in to Globus, once per machine and user.

    Prints an address to open in any browser, and asks for the code that it shows. `globus-compute-endpoint` shares
    the login. A run that waits for a login goes on. With GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET
    set there is nothing to log in; the two are tried.

    With --proxystore it is the login that `proxystore-globus-auth` shares: endpoints need it for ProxyStore's own
    relay, the Globus connector for transfers.
    """
    if proxystore:
        from appfl_gc.cli.proxystore import log_in

        if identities or policies or mfa or credentials:
            raise UsageError("`--proxystore` takes --force, --domain and --collection only.")
        log_in(force=force, domains=domains, collections=collections)
        return
    if collections:
        raise UsageError("`--collection` needs `--proxystore`: only its Globus connector uses collections.")
    from globus_sdk.gare import GlobusAuthorizationParameters

    from appfl_gc.control.globus_compute.identity import identity_from
    from appfl_gc.control.globus_compute.identity.user_login import UserLogin

    identity = identity_from(credentials)
    if not isinstance(identity, UserLogin):
        click.echo(f"{_account(identity)}: {identity.describe()} needs no login; Globus accepts it.")
        return
    wanted = GlobusAuthorizationParameters(
        session_required_single_domain=list(domains) or None,
        session_required_identities=list(identities) or None,
        session_required_policies=list(policies) or None,
        session_required_mfa=mfa or None,
    )
    asked = bool(domains or identities or policies or mfa)
    if not force and not asked and (account := _present(identity)) is not None:
        click.echo(f"Logged in already as {_shown(account)}. --force logs in again.")
        return
    with _told("log in", identity), identity.interactive_app() as app:
        app.login(auth_params=wanted if asked else None, force=True)
    click.echo(f"Logged in as {_account(identity)}.")


@click.command("whoami", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@credentials_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def whoami(credentials: str | None, form: str) -> None:
    """Show which Globus identity submits from here, and how long its login lasts.

    An endpoint serves the identity that owns it, or those that it is shared with. Exit status 10 without a login.
    """
    from appfl_gc.control.globus_compute.identity import identity_from
    from appfl_gc.control.globus_compute.rest.service import ComputeService

    identity = identity_from(credentials)
    account = ComputeService(identity).userinfo()
    status = identity.login_status()
    rows = {
        "identity": account.identity_id,
        "username": account.username,
        "name": account.name,
        "provider": account.provider,
        "linked": [one for one in account.linked if one != account.identity_id],
        "from": identity.describe(),
        "renews": status.renews,
        "seconds_left": None if status.seconds_left is None else round(status.seconds_left),
    }
    if form == "json":
        click.echo(json.dumps(rows))
        return
    for name in ("identity", "username", "name", "provider", "from"):
        if rows[name]:
            click.echo(f"{name:<9} {rows[name]}")
    for one in account.linked:
        if one != account.identity_id:
            click.echo(f"linked    {one}")
    click.echo(f"valid     {_life(identity, status.renews)}")


@click.command("logout", cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--force", is_flag=True, help="Also while endpoints of this machine run; they end with the login."
)
@credentials_option
def logout(force: bool, credentials: str | None) -> None:
    """Revoke the login of this machine and remove its tokens.

    `globus-compute-endpoint` shares them: endpoints that run here, on any node with the same home, lose theirs.
    """
    from appfl_gc.control.globus_compute.identity import identity_from
    from appfl_gc.control.globus_compute.identity.user_login import UserLogin

    identity = identity_from(credentials)
    running = _running_endpoints()
    if running and not force:
        raise UsageError(
            f"Endpoints of this machine use the login: {', '.join(running)}.",
            "Stop them with `appfl-gc endpoint stop NAME`, or log out with --force.",
        )
    with _told("log out", identity), _login_app(identity) as app:
        if not app.token_storage.token_storage.get_token_data_by_resource_server():
            click.echo(f"Nothing to log out: no tokens of {identity.describe()} are stored here.")
            return
        app.logout()
    click.echo(f"Logged out: the tokens of {identity.describe()} are revoked and removed.")
    if not isinstance(identity, UserLogin):
        click.echo("It logs itself in again when it is used; to end that, delete its secret at Globus.")


def _present(identity: UserLogin) -> Account | None:
    """The account that is logged in for all that a login is for; None if there is none or it has ended."""
    from appfl_gc.control.globus_compute.rest.service import ComputeService

    with identity.interactive_app() as app:
        if app.login_required():
            return None
    try:
        return ComputeService(identity).userinfo()
    except LoginError:
        return None


def _login_app(identity: Identity) -> GlobusApp:
    from appfl_gc.control.globus_compute.identity.user_login import UserLogin

    return identity.interactive_app() if isinstance(identity, UserLogin) else identity.app()


def _account(identity: Identity) -> str:
    from appfl_gc.control.globus_compute.rest.service import ComputeService

    return _shown(ComputeService(identity).userinfo())


def _shown(account: Account) -> str:
    provider = f", {account.provider}" if account.provider else ""
    return f"{account.username or account.name or 'identity'} ({account.identity_id}{provider})"


def _life(identity: Identity, renews: bool) -> str:
    if identity.waits_for_login and renews:
        return "renews itself, if it is used at least every six months"
    return "as long as its secret" if renews else "until its token ends; nothing renews it"


def _running_endpoints() -> list[str]:
    from appfl_gc.hpc.endpoint.agent import State, list_endpoints

    using = {State.RUNNING, State.ELSEWHERE}
    return [status.name for status in list_endpoints() if status.state in using]


@contextlib.contextmanager
def _told(purpose: str, identity: Identity) -> Iterator[None]:
    """What goes wrong in a conversation with Globus, in the user's terms."""
    import jwt
    from globus_sdk.login_flows import CommandLineLoginFlowEOFError
    from globus_sdk.token_storage.validating_token_storage import IdentityMismatchError

    from appfl_gc.control.globus_compute.rest.errors import Request, translate

    try:
        yield
    except CommandLineLoginFlowEOFError:
        raise LoginError(
            "No code was entered, so nobody is logged in.", "Run `appfl-gc login` in a terminal."
        ) from None
    except jwt.PyJWTError as error:
        raise LoginError(
            f"Globus's statement of who logged in can't be verified: {error}.",
            "Check the clock of this machine: `date -u`.",
        ) from None
    except IdentityMismatchError:
        raise LoginError(
            "That is another account than the one logged in here; the login is unchanged.",
            "Run `appfl-gc logout` first to change the account.",
        ) from None
    except Exception as error:
        ours = translate(error, Request(purpose, identity))
        if ours is None or ours is error:
            raise
        raise ours from None
