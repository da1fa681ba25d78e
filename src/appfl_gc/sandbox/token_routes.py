"""The route that gives tokens."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from appfl_gc.sandbox.auth_routes import client_of, form_of, token_response
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import Identities


def token_router(identities: Identities) -> APIRouter:
    """The route, for each of the grants that the SDK uses."""
    router = APIRouter()

    @router.post("/v2/oauth2/token")
    async def token(request: Request) -> dict[str, Any]:
        form = await form_of(request)
        client_id, secret = client_of(request, form)
        grant = form.get("grant_type")
        if grant == "client_credentials":
            identity = identities.check_application(client_id, secret)
            return token_response(identities, identity, form.get("scope", ""))
        raise ServiceError(400, "unsupported_grant_type", f"The grant type {grant!r} is not supported.")

    return router
