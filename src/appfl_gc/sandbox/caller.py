"""Who makes a Compute request, and whether they made too many."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from appfl_gc.sandbox.identities import COMPUTE_SCOPE, RESOURCE_SERVERS, Identities, Identity
from appfl_gc.sandbox.rate import RateLimit


@dataclass(frozen=True, eq=False)  # FastAPI wants dependencies that can be hashed
class Caller:
    """A FastAPI dependency that answers the identity behind a request."""

    identities: Identities
    rate: RateLimit

    def __call__(self, request: Request) -> Identity:
        """The identity; raises ``ServiceError`` 401, 403 or 429."""
        header = request.headers.get("authorization")
        identity = self.identities.bearer(header, RESOURCE_SERVERS[COMPUTE_SCOPE])
        self.rate.take(identity.id)
        return identity
