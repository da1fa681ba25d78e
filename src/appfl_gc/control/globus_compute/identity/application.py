"""A Globus application with its own client id and secret."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass, field

import globus_sdk
from globus_sdk.globus_app import GlobusAppConfig
from globus_sdk.scopes import ComputeScopes

from appfl_gc.control.globus_compute.identity.base import Identity, LoginStatus, app_name, login_scopes
from appfl_gc.control.globus_compute.identity.token_storage import (
    StoragePlace,
    environment_name,
    storage_error,
)
from appfl_gc.protocol.errors import LoginError


@dataclass(frozen=True)
class Application(Identity):
    """An application that logs itself in.

    Attributes:
        client_id: of the application; also its identity.
        client_secret: never shown.
        source: where both were read, for messages.
    """

    client_id: str
    client_secret: str = field(repr=False, compare=False)
    source: str = field(compare=False)

    @property
    def waits_for_login(self) -> bool:
        """No: it logs itself in."""
        return False

    @property
    def hint(self) -> str:
        """Check the secret."""
        return (
            f"Check the client id and secret of {self.source}; "
            "https://app.globus.org/settings/developers makes a new secret."
        )

    @property
    def place(self) -> StoragePlace:
        """Where its tokens lie: under its own client id, so two applications never mix."""
        return StoragePlace(f"clientprofile/{environment_name()}/{self.client_id}")

    def describe(self) -> str:
        """Its client id and where it came from."""
        return f"the Globus application {self.client_id} (from {self.source})"

    def app(self) -> globus_sdk.GlobusApp:
        """An app that fetches tokens with the secret; see ``Identity.app``."""
        config = GlobusAppConfig(token_storage=self.place, request_refresh_tokens=True)
        try:
            return globus_sdk.ClientApp(
                app_name(),
                login_client=ApplicationClient(self),
                scope_requirements=login_scopes(),
                config=config,
            )
        except sqlite3.Error as error:
            raise storage_error(error) from None

    def login_status(self) -> LoginStatus:
        """Never required; whether the secret is right shows with the first request."""
        storage = self.place.open()
        try:
            token = storage.get_token_data(ComputeScopes.resource_server)
        except sqlite3.Error as error:
            raise storage_error(error) from None
        finally:
            storage.close()
        left = None if token is None else max(0.0, token.expires_at_seconds - time.time())
        return LoginStatus(required=False, renews=True, seconds_left=left)


class ApplicationClient(globus_sdk.ConfidentialAppAuthClient):  # type: ignore[misc]
    """A login client that says whose secret is refused."""

    def __init__(self, application: Application) -> None:
        super().__init__(application.client_id, application.client_secret, app_name=app_name())
        self._application = application

    def oauth2_client_credentials_tokens(
        self, requested_scopes: object
    ) -> globus_sdk.OAuthClientCredentialsResponse:
        """As globus_sdk's.

        Raises:
            LoginError: if Globus refuses the client id or the secret.
        """
        try:
            return super().oauth2_client_credentials_tokens(requested_scopes)
        except globus_sdk.AuthAPIError as error:
            if error.http_status not in {400, 401, 403}:
                raise
            raise LoginError(
                f"Globus does not accept the secret of {self._application.describe()}.",
                self._application.hint,
            ) from None
