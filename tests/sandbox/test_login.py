"""A person's login with the SDK's own app."""

from __future__ import annotations

import re

import globus_sdk
import httpx
import pytest
from globus_compute_sdk import Client
from globus_compute_sdk.sdk.auth.globus_app import DEFAULT_CLIENT_ID
from globus_sdk.login_flows import CommandLineLoginFlowManager
from globus_sdk.token_storage import MemoryTokenStorage

from appfl_gc.sandbox.errors import SandboxError
from appfl_gc.sandbox.sandbox import Sandbox


def test_a_person_logs_in_goes_on_after_lost_tokens_and_logs_out(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in sandbox.environment:
        monkeypatch.delenv(name, raising=False)
    for name, value in sandbox.login_environment.items():
        monkeypatch.setenv(name, value)
    urls: list[str] = []

    class Flow(CommandLineLoginFlowManager):
        def print_authorize_url(self, authorize_url: str) -> None:
            urls.append(authorize_url)

        def prompt_for_code(self) -> str:
            return sandbox.log_in(urls[-1])

    config = globus_sdk.GlobusAppConfig(
        request_refresh_tokens=True, token_storage=MemoryTokenStorage(), login_flow_manager=Flow
    )
    app = globus_sdk.UserApp("test", client_id=DEFAULT_CLIENT_ID, config=config)
    client = Client(app=app)
    app.login()
    assert client.get_endpoints() == []
    sandbox.faults.forget_tokens()
    assert client.get_endpoints() == []
    assert len(urls) == 1
    sandbox.faults.forget_tokens(refresh=True)
    with pytest.raises(globus_sdk.AuthAPIError):
        client.get_endpoints()
    app.logout()
    assert app.login_required()


def test_the_page_wants_the_key_of_the_owner(sandbox: Sandbox) -> None:
    url = (
        f"{sandbox.description.url}/v2/oauth2/authorize?client_id=x&redirect_uri=x&scope=openid&state=s"
        "&response_type=code&code_challenge=c&code_challenge_method=S256"
    )
    with httpx.Client(trust_env=False) as client:
        assert 'name="key"' in client.get(url).text
        assert client.post(url, data={"key": "guessed"}).status_code == 403
    code = sandbox.log_in(url)
    form = {"grant_type": "authorization_code", "code": code, "client_id": "x", "code_verifier": "wrong"}
    with httpx.Client(trust_env=False) as client:
        answer = client.post(f"{sandbox.description.url}/v2/oauth2/token", data=form)
    assert answer.status_code == 400
    with pytest.raises(SandboxError):
        sandbox.log_in(re.sub("S256", "plain", url))
