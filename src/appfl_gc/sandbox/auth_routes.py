"""Globus Auth, as far as applications need it: tokens for client credentials, and who somebody is."""

from __future__ import annotations

import base64
import binascii
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request

from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import AUTH_SERVER, RESOURCE_SERVERS, Grant, Identities, Identity


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form."""
    return {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}


def client_of(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret of a request, from its header or its form."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind == "Basic":
        try:
            client_id, _, secret = base64.b64decode(text).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise ServiceError(401, "invalid_client", "The Authorization header is not valid.") from None
        return client_id, secret
    return form.get("client_id", ""), form.get("client_secret", "")


def token_response(
    identities: Identities, identity: Identity, scope: str, refresh_for: str | None = None
) -> dict[str, Any]:
    """Tokens for a list of scopes, one per resource server; with ``refresh_for`` (a client id) refresh tokens too."""
    by_server: dict[str, list[str]] = {}
    for one in scope.split():
        scopes = by_server.setdefault(RESOURCE_SERVERS.get(one, AUTH_SERVER), [])
        if one not in scopes:
            scopes.append(one)
    if not by_server:
        raise ServiceError(400, "invalid_scope", "No scope was asked for.")
    tokens = []
    for server, scopes in by_server.items():
        token: dict[str, Any] = {
            "access_token": identities.issue(identity, server, frozenset(scopes)),
            "scope": " ".join(scopes),
            "expires_in": identities.token_seconds,
            "token_type": "Bearer",
            "resource_server": server,
        }
        if refresh_for is not None:
            grant = Grant(identity, refresh_for, server, frozenset(scopes))
            token["refresh_token"] = identities.issue_refresh(grant)
        tokens.append(token)
    return {**tokens[0], "other_tokens": tokens[1:]}


def auth_router(identities: Identities) -> APIRouter:
    """The routes that ask who somebody is, and the one that forgets a token."""
    router = APIRouter()

    @router.get("/v2/oauth2/userinfo")
    def userinfo(request: Request) -> dict[str, Any]:
        identity = identities.bearer(request.headers.get("authorization"), AUTH_SERVER)
        return {**_document(identity, "sub"), "identity_set": [_document(identity, "sub")]}

    @router.get("/v2/api/identities")
    def identities_by_id(request: Request, ids: str = "") -> dict[str, Any]:
        identities.bearer(request.headers.get("authorization"), AUTH_SERVER)
        found = [identities.get(id_) for id_ in ids.split(",")]
        return {"identities": [_document(one, "id") for one in found if one is not None]}

    @router.post("/v2/oauth2/token/revoke")
    async def revoke(request: Request) -> dict[str, Any]:
        identities.revoke((await form_of(request)).get("token", ""))
        return {"active": False}

    return router


def _document(identity: Identity, key: str) -> dict[str, Any]:
    name = "username" if key == "id" else "preferred_username"
    return {
        key: identity.id,
        name: identity.username,
        "name": identity.name,
        "email": identity.username,
        "organization": "sandbox",
        "identity_provider": "00000000-0000-0000-0000-000000000000",
        "identity_provider_display_name": "appfl-gc sandbox",
    }
