"""Logins of people: the codes of the login page, and the signed statement of who logged in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import Identity

CODE_SECONDS = 600.0
ALGORITHM = "RS256"


@dataclass(frozen=True)
class Login:
    """A login that waits for its code to be exchanged; ``expires`` in seconds of ``time.monotonic``."""

    identity: Identity
    client_id: str
    scope: str
    challenge: str
    expires: float


@dataclass
class Logins:
    """Codes that were given and not yet used; safe for use by several threads.

    Attributes:
        key: what the login page asks for; only the sandbox's owner can read it.
    """

    key: str
    _codes: dict[str, Login] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, key: str) -> bool:
        """Whether somebody knows the key."""
        return hmac.compare_digest(key.encode(), self.key.encode())

    def give(self, identity: Identity, client_id: str, scope: str, challenge: str) -> str:
        """A new code."""
        code = secrets.token_urlsafe(18)
        with self._lock:
            self._codes[code] = Login(identity, client_id, scope, challenge, time.monotonic() + CODE_SECONDS)
        return code

    def take(self, code: str, client_id: str, verifier: str) -> Login:
        """The login of a code, once; raises ``ServiceError`` if code, client or PKCE verifier is wrong."""
        with self._lock:
            login = self._codes.pop(code, None)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            login is None
            or login.expires < time.monotonic()
            or login.client_id != client_id
            or not hmac.compare_digest(login.challenge, challenge)
        ):
            raise ServiceError(400, "invalid_grant", "The code is not valid.")
        return login


class Signer:
    """Signs who logged in; the key is made when it is first needed."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def id_token(self, issuer: str, identity: Identity, client_id: str, seconds: int) -> str:
        """A statement for a client that an identity has logged in."""
        now = int(time.time())
        claims = {
            "iss": issuer,
            "sub": identity.id,
            "aud": client_id,
            "iat": now,
            "exp": now + seconds,
            "name": identity.name,
            "preferred_username": identity.username,
            "email": identity.username,
            "identity_set": [{"sub": identity.id, "username": identity.username}],
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def public_keys(self) -> dict[str, Any]:
        """The JWKS document."""
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [{**key, "alg": ALGORITHM, "use": "sig"}]}
