"""What every identity is, and how long it stays valid."""

from __future__ import annotations

import abc
import platform
from dataclasses import dataclass

import globus_sdk
from globus_sdk.gare import GlobusAuthorizationParameters
from globus_sdk.scopes import AuthScopes, ComputeScopes

from appfl_gc.protocol.errors import EndpointError
from appfl_gc.protocol.wire import clean_text


@dataclass(frozen=True)
class LoginStatus:
    """What is known of a login without asking anybody.

    Attributes:
        required: nothing valid is stored, so nothing can be submitted before a login.
        renews: new access tokens are fetched when the present one ends.
        seconds_left: life of the present access token; None where there is none or nobody knows.
    """

    required: bool
    renews: bool
    seconds_left: float | None


class Identity(abc.ABC):
    """One Globus identity. Equal identities may share connections; different ones share nothing.

    Identities are frozen and hashable. Everything that is stored is read when it is needed, so that what
    another shell or another process does is seen.
    """

    @property
    @abc.abstractmethod
    def waits_for_login(self) -> bool:
        """Whether `appfl-gc login` in another shell gives this identity what it lacks."""

    @property
    @abc.abstractmethod
    def hint(self) -> str:
        """What to do when this identity is not accepted."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Which identity it is, for messages: no verb, no secret."""

    @abc.abstractmethod
    def app(self) -> globus_sdk.GlobusApp:
        """A new ``GlobusApp`` with what is stored now. It raises ``LoginError`` where others prompt.

        One app serves one thread at a time. ``close`` it.

        Raises:
            LoginError: if what it is made from is missing or unreadable.
        """

    @abc.abstractmethod
    def login_status(self) -> LoginStatus:
        """What the storage says now; asks nobody.

        Raises:
            LoginError: if what is stored can't be read.
        """

    def login_required(self) -> bool:
        """Whether nothing can be submitted before somebody logs in. Reads the storage again each time."""
        return self.login_status().required


def app_name() -> str:
    """The name that Globus shows for this machine, the same as the SDK's."""
    return platform.node()


def submitter_scopes() -> dict[str, list[globus_sdk.Scope]]:
    """What submitting needs. Every app asks for ``openid`` on its own."""
    return {ComputeScopes.resource_server: [ComputeScopes.all]}


def login_scopes() -> dict[str, list[globus_sdk.Scope]]:
    """What `globus-compute-endpoint` asks for, so that one login serves both."""
    return {
        **submitter_scopes(),
        AuthScopes.resource_server: [AuthScopes.openid, AuthScopes.manage_projects],
    }


def sign_in_refusal(
    wanted: GlobusAuthorizationParameters, identity: Identity, endpoint_id: str | None = None
) -> EndpointError:
    """The error for an endpoint or service that takes this identity only after another way of signing in."""
    where = f"Endpoint {endpoint_id}" if endpoint_id else "The endpoint"
    needs, options = [], []
    if wanted.session_required_single_domain:
        domains = [clean_text(domain, 100) for domain in wanted.session_required_single_domain]
        needs.append(f"an account of {' or '.join(domains)}")
        options.append(f"--domain {domains[0]}")
    if wanted.session_required_identities:
        names = [clean_text(name, 100) for name in wanted.session_required_identities]
        needs.append(f"the identity {' or '.join(names)}")
        options.append(f"--identity {names[0]}")
    if wanted.session_required_policies:
        policies = [clean_text(policy, 100) for policy in wanted.session_required_policies]
        needs.append(f"a sign-in that meets the policy {', '.join(policies)}")
        options += [f"--policy {policy}" for policy in policies]
    if wanted.session_required_mfa:
        needs.append("a second factor")
        options.append("--mfa")
    said = f" It says: {clean_text(wanted.session_message, 500)}" if wanted.session_message else ""
    message = (
        f"{where} refuses {identity.describe()}: it asks for {' and '.join(needs) or 'another consent'}."
    )
    if identity.waits_for_login:
        hint = (
            f"Run `{' '.join(['appfl-gc login --force', *options])}` and choose that account in the browser."
        )
    else:
        hint = "An application can't sign in that way: use a personal login, or ask the endpoint's owner."
    return EndpointError(message + said, hint)
