"""The login page of a person, the route that gives tokens, and the key of what it signs."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from appfl_gc.sandbox.auth_routes import client_of, form_of, token_response
from appfl_gc.sandbox.errors import ServiceError
from appfl_gc.sandbox.identities import AUTH_SERVER, Identities, Identity
from appfl_gc.sandbox.logins import ALGORITHM, Logins, Signer

PAGE = """<!doctype html><title>Log in to the sandbox</title>
<h1>Log in to the sandbox</h1>
<form method="post"><label>Key (`appfl-gc sandbox status` shows it): <input name="key" type="password"></label>
<button>Log in</button></form>
"""
CODE_PAGE = """<!doctype html><title>Logged in</title>
<p>Paste this code where you logged in: <code id="code">{}</code></p>
"""


def login_router(identities: Identities, logins: Logins, signer: Signer, person: Identity) -> APIRouter:
    """The routes; whoever knows the key logs in as ``person``."""
    router = APIRouter()

    @router.get("/v2/oauth2/authorize")
    def page() -> HTMLResponse:
        return HTMLResponse(PAGE)

    @router.post("/v2/oauth2/authorize")
    async def log_in(request: Request) -> Response:
        asked = request.query_params
        if not logins.check((await form_of(request)).get("key", "")):
            return HTMLResponse("The key is wrong.", 403)
        if asked.get("code_challenge_method") != "S256" or "code_challenge" not in asked:
            return HTMLResponse("The login has no PKCE challenge.", 400)
        scope, challenge = asked.get("scope", ""), asked["code_challenge"]
        code = logins.give(person, asked.get("client_id", ""), scope, challenge)
        back = asked.get("redirect_uri", "")
        if back.startswith(("http://localhost:", "http://127.0.0.1:")) and not back.startswith(
            _base(request)
        ):
            query = urlencode({"code": code, "state": asked.get("state", "")})
            return RedirectResponse(f"{back}?{query}", 302)
        return HTMLResponse(CODE_PAGE.format(html.escape(code)))

    @router.post("/v2/oauth2/token")
    async def token(request: Request) -> dict[str, Any]:
        form = await form_of(request)
        client_id, secret = client_of(request, form)
        grant = form.get("grant_type")
        if grant == "client_credentials":
            identity = identities.check_application(client_id, secret)
            return token_response(identities, identity, form.get("scope", ""))
        if grant == "authorization_code":
            login = logins.take(form.get("code", ""), client_id, form.get("code_verifier", ""))
            tokens = token_response(identities, login.identity, login.scope, refresh_for=client_id)
            return {**tokens, "id_token": signed(request, login.identity, client_id)}
        if grant == "refresh_token":
            old = identities.grant(form.get("refresh_token", ""))
            if old.client_id != client_id:
                raise ServiceError(400, "invalid_grant", "The refresh token is another client's.")
            tokens = token_response(identities, old.identity, " ".join(sorted(old.scopes)))
            tokens["refresh_token"] = form["refresh_token"]
            if old.resource_server == AUTH_SERVER:
                tokens["id_token"] = signed(request, old.identity, client_id)
            return tokens
        raise ServiceError(400, "unsupported_grant_type", "The grant type is not supported.")

    @router.get("/.well-known/openid-configuration")
    def openid_configuration(request: Request) -> dict[str, Any]:
        base = _base(request)
        return {
            "issuer": base,
            "authorization_endpoint": f"{base}/v2/oauth2/authorize",
            "token_endpoint": f"{base}/v2/oauth2/token",
            "userinfo_endpoint": f"{base}/v2/oauth2/userinfo",
            "jwks_uri": f"{base}/jwk.json",
            "id_token_signing_alg_values_supported": [ALGORITHM],
        }

    @router.get("/jwk.json")
    def public_keys() -> dict[str, Any]:
        return signer.public_keys()

    def signed(request: Request, identity: Identity, client_id: str) -> str:
        return signer.id_token(_base(request), identity, client_id, identities.token_seconds)

    return router


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")
