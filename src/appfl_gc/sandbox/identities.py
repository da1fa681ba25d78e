"""Who may use the service: applications, people, and the tokens they hold."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field

from appfl_gc.sandbox.accounts import Account
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.files import Credentials

COMPUTE_SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
PROXYSTORE_RELAY = "ebd5bbed-95e2-47cf-9c80-39e2064274bd"
RESOURCE_SERVERS = {
    COMPUTE_SCOPE: "funcx_service",
    f"https://auth.globus.org/scopes/{PROXYSTORE_RELAY}/relay_all": PROXYSTORE_RELAY,
    "urn:globus:auth:scope:transfer.api.globus.org:all": "transfer.api.globus.org",
}
AUTH_SERVER = "auth.globus.org"


@dataclass(frozen=True)
class Identity:
    """Somebody who owns endpoints, functions and tasks.

    Attributes:
        id: a UUID.
        username: as the service tells it to endpoints.
        name: for people to read.
        account: its user of the broker.
    """

    id: str
    username: str
    name: str
    account: Account


@dataclass(frozen=True)
class Token:
    """What a bearer token stands for; ``expires`` in seconds of ``time.monotonic``."""

    identity: Identity
    resource_server: str
    scopes: frozenset[str]
    expires: float


@dataclass(frozen=True)
class Grant:
    """What a refresh token stands for."""

    identity: Identity
    client_id: str
    resource_server: str
    scopes: frozenset[str]


@dataclass
class Identities:
    """Every identity, application and token; safe for use by several threads.

    Attributes:
        accounts: users of the broker that are not given out yet.
        token_seconds: lifetime of access tokens.
    """

    accounts: list[Account]
    token_seconds: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _identities: dict[str, Identity] = field(default_factory=dict)
    _secrets: dict[str, str] = field(default_factory=dict)
    _tokens: dict[str, Token] = field(default_factory=dict)
    _grants: dict[str, Grant] = field(default_factory=dict)

    def add_application(self, name: str) -> Credentials:
        """Register an application with its own identity; raises ``ServiceError`` when there is no room."""
        client_id, secret = str(uuid.uuid4()), secrets.token_urlsafe(32)
        self._add(client_id, f"{client_id}@clients.auth.globus.org", name)
        self._secrets[client_id] = secret
        return Credentials(name, client_id, secret, client_id)

    def add_person(self, name: str) -> Identity:
        """Register somebody who logs in by the login page."""
        return self._add(str(uuid.uuid4()), f"{name}@sandbox.invalid", name)

    def _add(self, id_: str, username: str, name: str) -> Identity:
        with self._lock:
            if not self.accounts:
                raise ServiceError(507, "SANDBOX_FULL", "This sandbox has no room for another identity.")
            identity = Identity(id_, username, name, self.accounts.pop(0))
            self._identities[id_] = identity
            return identity

    def get(self, id_: str) -> Identity | None:
        """The identity with an id."""
        return self._identities.get(id_)

    def check_application(self, client_id: str, secret: str) -> Identity:
        """The identity of an application; raises ``ServiceError`` for an unknown id or a wrong secret."""
        expected = self._secrets.get(client_id)
        if expected is None or not hmac.compare_digest(expected.encode(), secret.encode()):
            raise ServiceError(401, "invalid_client", "The client id or the client secret is wrong.")
        return self._identities[client_id]

    def issue(self, identity: Identity, resource_server: str, scopes: frozenset[str]) -> str:
        """A new access token."""
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._tokens[token] = Token(
                identity, resource_server, scopes, time.monotonic() + self.token_seconds
            )
        return token

    def issue_refresh(self, grant: Grant) -> str:
        """A new refresh token."""
        token = secrets.token_urlsafe(40)
        with self._lock:
            self._grants[token] = grant
        return token

    def grant(self, refresh_token: str) -> Grant:
        """What a refresh token stands for; raises ``ServiceError`` if it was revoked or never given."""
        grant = self._grants.get(refresh_token)
        if grant is None:
            raise ServiceError(400, "invalid_grant", "The refresh token is not valid.")
        return grant

    def bearer(self, header: str | None, resource_server: str) -> Identity:
        """Who a request's ``Authorization`` header names; raises ``ServiceError`` 401 or 403."""
        kind, _, text = (header or "").partition(" ")
        token = self._tokens.get(text) if kind == "Bearer" else None
        if token is None or token.expires < time.monotonic():
            raise ServiceError(
                401, "AUTHENTICATION_FAILED", "The token is missing, has expired or is not known."
            )
        if token.resource_server != resource_server:
            raise ServiceError(403, "MISSING_SCOPE", f"The token is not one for {resource_server}.")
        return token.identity

    def revoke(self, token: str) -> None:
        """Forget one access or refresh token."""
        with self._lock:
            self._tokens.pop(token, None)
            self._grants.pop(token, None)

    def forget_tokens(self, refresh: bool) -> None:
        """Forget every access token, and with ``refresh`` the refresh tokens too: all logins have ended."""
        with self._lock:
            self._tokens.clear()
            if refresh:
                self._grants.clear()
