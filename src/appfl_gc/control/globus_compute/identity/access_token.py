"""A bare access token that somebody else fetched: it can't be renewed here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NoReturn

import globus_sdk
from globus_compute_sdk.sdk.auth.globus_app import DEFAULT_CLIENT_ID
from globus_sdk.globus_app import GlobusAppConfig
from globus_sdk.scopes import AuthScopes, ComputeScopes
from globus_sdk.token_storage import MemoryTokenStorage, TokenStorageData

from appfl_gc.control.globus_compute.identity.base import Identity, LoginStatus, app_name, submitter_scopes
from appfl_gc.control.globus_compute.identity.token_source import TokenSource
from appfl_gc.control.globus_compute.identity.user_login import RefusingLogin
from appfl_gc.protocol.errors import LoginError

# Nobody tells how long a bare token lives; the service does, with a 401.
ASSUMED_SECONDS = 2 * 86400


@dataclass(frozen=True)
class AccessToken(Identity):
    """The identity that a token was issued to.

    Attributes:
        compute: where the token for Globus Compute is read, anew for each app.
        openid: where the token for Globus Auth is read, or None: then nobody can tell whose token it is.
    """

    compute: TokenSource
    openid: TokenSource | None = None

    @property
    def waits_for_login(self) -> bool:
        """No: a login is not what it uses."""
        return False

    @property
    def hint(self) -> str:
        """Bring a new token."""
        return (
            f"Put a new token into {self.compute.name}, or leave --compute_token out and run `appfl-gc login`, "
            "which renews itself."
        )

    def describe(self) -> str:
        """Where the token came from."""
        return f"the Globus token of {self.compute.name}"

    def app(self) -> globus_sdk.GlobusApp:
        """An app that holds the token in memory only; see ``Identity.app``."""
        storage = MemoryTokenStorage()
        data = {
            ComputeScopes.resource_server: _token(
                ComputeScopes.resource_server, ComputeScopes.all, self.compute
            )
        }
        if self.openid is not None:
            data[AuthScopes.resource_server] = _token(
                AuthScopes.resource_server, AuthScopes.openid, self.openid
            )
        storage.store_token_data_by_resource_server(data)
        client = globus_sdk.NativeAppAuthClient(DEFAULT_CLIENT_ID, app_name=app_name())
        config = GlobusAppConfig(
            token_storage=storage,
            login_flow_manager=RefusingLogin(client, self),
            token_validation_error_handler=_refuse,
        )
        return globus_sdk.UserApp(
            app_name(), login_client=client, scope_requirements=submitter_scopes(), config=config
        )

    def login_status(self) -> LoginStatus:
        """Never required; whether the token is still good shows with the first request."""
        self.compute.read()
        return LoginStatus(required=False, renews=False, seconds_left=None)


def _token(server: str, scope: globus_sdk.Scope, source: TokenSource) -> TokenStorageData:
    return TokenStorageData(
        resource_server=server,
        identity_id=None,
        scope=str(scope),
        access_token=source.read(),
        refresh_token=None,
        expires_at_seconds=int(time.time()) + ASSUMED_SECONDS,
        token_type="Bearer",
    )


def _refuse(app: globus_sdk.GlobusApp, error: globus_sdk.token_storage.TokenValidationError) -> NoReturn:
    raise LoginError(
        "A token for Globus Auth is needed to tell whose the token for Globus Compute is.",
        "Give --openid_token too.",
    )
