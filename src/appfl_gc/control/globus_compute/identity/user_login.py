"""A person's login, shared with `globus-compute-endpoint` and the SDK."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import globus_sdk
from globus_compute_sdk.sdk.auth.globus_app import DEFAULT_CLIENT_ID
from globus_sdk.gare import GlobusAuthorizationParameters
from globus_sdk.globus_app import GlobusAppConfig
from globus_sdk.login_flows import CommandLineLoginFlowManager, LoginFlowManager
from globus_sdk.scopes import ComputeScopes

from appfl_gc.control.globus_compute.identity.base import (
    Identity,
    LoginStatus,
    app_name,
    login_scopes,
    sign_in_refusal,
    submitter_scopes,
)
from appfl_gc.control.globus_compute.identity.token_storage import (
    StoragePlace,
    environment_name,
    storage_error,
)
from appfl_gc.protocol.errors import LoginError

LOGIN_HINT = "Run `appfl-gc login` in any shell on this machine."


class RefusingLogin(LoginFlowManager):  # type: ignore[misc]
    """Stands where globus_sdk prompts, and says what is asked for instead."""

    def __init__(self, login_client: globus_sdk.AuthLoginClient, identity: Identity) -> None:
        super().__init__(login_client)
        self._identity = identity

    def run_login_flow(self, auth_parameters: GlobusAuthorizationParameters) -> NoReturn:
        """Raise ``EndpointError``: only a service's answer that asks for another sign-in leads here."""
        raise sign_in_refusal(auth_parameters, self._identity)


class UserLoginClient(globus_sdk.NativeAppAuthClient):  # type: ignore[misc]
    """A login client for which a refresh token that Globus refuses is a missing login."""

    def __init__(self, client_id: str, place: StoragePlace) -> None:
        super().__init__(client_id=client_id, app_name=app_name())
        self._place = place

    def oauth2_refresh_token(
        self, refresh_token: str, *, body_params: dict[str, Any] | None = None
    ) -> globus_sdk.OAuthRefreshTokenResponse:
        """As globus_sdk's; a token that is no longer valid is dropped, so that everybody sees a login is needed.

        Raises:
            LoginError: if the login has ended.
        """
        try:
            return super().oauth2_refresh_token(refresh_token, body_params=body_params)
        except globus_sdk.AuthAPIError as error:
            if "invalid_grant" not in error.text:
                raise
            self._forget(refresh_token)
            raise LoginError("The Globus login has ended: Globus no longer renews it.", LOGIN_HINT) from None

    def _forget(self, refresh_token: str) -> None:
        storage = self._place.open()
        try:
            # Only what was refused: another shell may have logged in meanwhile.
            for server, data in storage.get_token_data_by_resource_server().items():
                if data.refresh_token == refresh_token:
                    storage.remove_token_data(server)
        finally:
            storage.close()


@dataclass(frozen=True)
class UserLogin(Identity):
    """The login of `appfl-gc login` (and `globus-compute-endpoint login`) on this machine."""

    client_id: str
    """Of the program that the person logs in to, not of the person."""

    @classmethod
    def of_environment(cls) -> UserLogin:
        """The login that the SDK would use."""
        return cls(os.environ.get("GLOBUS_COMPUTE_CLIENT_ID") or DEFAULT_CLIENT_ID)

    @property
    def waits_for_login(self) -> bool:
        """Yes."""
        return True

    @property
    def hint(self) -> str:
        """Log in."""
        return LOGIN_HINT

    @property
    def place(self) -> StoragePlace:
        """Where its tokens lie."""
        return StoragePlace(f"user/{environment_name()}")

    def describe(self) -> str:
        """With the identity's UUID, as far as it is stored."""
        try:
            tokens = self._stored()
        except LoginError:
            tokens = {}
        known = next((data.identity_id for data in tokens.values() if data.identity_id), None)
        return (
            f"the Globus login of this user (identity {known})" if known else "the Globus login of this user"
        )

    def app(self) -> globus_sdk.GlobusApp:
        """An app that refuses to prompt; see ``Identity.app``."""
        client = UserLoginClient(self.client_id, self.place)
        return self._app(client, RefusingLogin(client, self), _refuse, submitter_scopes())

    def interactive_app(self) -> globus_sdk.GlobusApp:
        """An app whose ``login`` prints an address and asks for a code: for `appfl-gc login` alone."""
        client = UserLoginClient(self.client_id, self.place)
        prompt = CommandLineLoginFlowManager(
            client, request_refresh_tokens=True, native_prefill_named_grant=app_name()
        )
        return self._app(client, prompt, _refuse, login_scopes())

    def login_status(self) -> LoginStatus:
        """What the storage says; a login renews itself until it was unused for half a year."""
        try:
            with self.app() as app:
                required = bool(app.login_required())
        except sqlite3.Error as error:
            raise storage_error(error) from None
        token = self._stored().get(ComputeScopes.resource_server)
        if required or token is None:
            return LoginStatus(required=True, renews=False, seconds_left=None)
        return LoginStatus(
            required=False, renews=True, seconds_left=max(0.0, token.expires_at_seconds - time.time())
        )

    def _stored(self) -> dict[str, globus_sdk.token_storage.TokenStorageData]:
        storage = self.place.open()
        try:
            return dict(storage.get_token_data_by_resource_server())
        except sqlite3.Error as error:
            raise storage_error(error) from None
        finally:
            storage.close()

    def _app(
        self,
        client: UserLoginClient,
        manager: LoginFlowManager,
        handler: Any,
        scopes: dict[str, list[globus_sdk.Scope]],
    ) -> globus_sdk.GlobusApp:
        config = GlobusAppConfig(
            token_storage=self.place,
            request_refresh_tokens=True,
            login_flow_manager=manager,
            token_validation_error_handler=handler,
        )
        try:
            return globus_sdk.UserApp(
                app_name(), login_client=client, scope_requirements=scopes, config=config
            )
        except ValueError:
            raise LoginError(
                "The stored Globus login mixes two accounts.",
                "Remove storage.db in ~/.globus_compute (or $GLOBUS_COMPUTE_USER_DIR), then run `appfl-gc login`.",
            ) from None
        except sqlite3.Error as error:
            raise storage_error(error) from None


def _refuse(app: globus_sdk.GlobusApp, error: globus_sdk.token_storage.TokenValidationError) -> NoReturn:
    raise LoginError("There is no valid Globus login on this machine.", LOGIN_HINT)
