"""What the REST service refuses, in the user's terms; and that nobody is ever asked for input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from globus_compute_endpoint.auth import get_globus_app_with_scopes
from globus_sdk import ComputeAPIError
from globus_sdk.token_storage import TokenStorageData

from appfl_gc.control.globus_compute.identity import Identity, default_identity, identity_from
from appfl_gc.control.globus_compute.identity.user_login import UserLogin
from appfl_gc.control.globus_compute.rest.errors import (
    Request,
    RequestTooLargeError,
    ThrottledError,
    translate,
)
from appfl_gc.control.globus_compute.rest.service import ComputeService
from appfl_gc.protocol.errors import DeliveryError, EndpointError, ErrorClass, LoginError
from tests.control.globus_compute.scripted_service import (
    AUTH_SCOPES,
    COMPUTE_SCOPE,
    Answer,
    ScriptedService,
    scripted_service,
)

ENDPOINT = "aaaaaaaa-5a4d-4b0c-8000-000000000001"
ID_A, ID_B = "11111111-2222-3333-4444-555555555555", "66666666-2222-3333-4444-555555555555"
SECRET = "s3cret-value"
PERSON = "99999999-2222-3333-4444-555555555555"
DESCRIBE = f"GET /v2/endpoints/{ENDPOINT}"


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedService]:
    """A scripted service; SITE_A and SITE_B are applications, nobody is logged in, and input is an error."""
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path / "user"))
    for prefix, client_id in (("SITE_A", ID_A), ("SITE_B", ID_B)):
        monkeypatch.setenv(f"{prefix}_CLIENT_ID", client_id)
        monkeypatch.setenv(f"{prefix}_CLIENT_SECRET", f"{SECRET}-{prefix}")

    def asked(*_: object) -> str:
        raise AssertionError("somebody was asked for input")

    monkeypatch.setattr("builtins.input", asked)
    with scripted_service() as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


def service_of(identity: Identity) -> ComputeService:
    return ComputeService(identity, retries=0, timeout=10)


@pytest.fixture
def site_a(cloud: ScriptedService) -> Iterator[ComputeService]:
    service = service_of(identity_from("SITE_A"))
    yield service
    service.close()


def store_login(refresh: str = "refresh-1", seconds: int = 3600, identity: str = PERSON) -> None:
    """What `appfl-gc login` would leave in the storage."""
    storage = UserLogin.of_environment().place.open()
    for server, scope in (("funcx_service", COMPUTE_SCOPE), ("auth.globus.org", AUTH_SCOPES)):
        data = TokenStorageData(
            server,
            identity,
            scope,
            f"access-{refresh}",
            f"{refresh}-{server}",
            int(time.time()) + seconds,
            "Bearer",
        )
        storage.store_token_data_by_resource_server({server: data})
    storage.close()


def coded(status: int, code: str, message: str = "What the service says.", **headers: str) -> Answer:
    return Answer(status, {"code": code, "message": message}, headers)


@pytest.mark.parametrize(
    ("answer", "kind", "error_class", "words"),
    [
        (coded(401, "USER_UNAUTHENTICATED"), LoginError, ErrorClass.LOGIN, "SITE_A_CLIENT_ID and _SECRET"),
        (coded(403, "ENDPOINT_ACCESS_FORBIDDEN"), EndpointError, ErrorClass.ENDPOINT, "identity provider"),
        (coded(403, "FUNCTION_NOT_PERMITTED"), EndpointError, ErrorClass.ENDPOINT, "allowed_functions"),
        (coded(404, "ENDPOINT_NOT_FOUND"), EndpointError, ErrorClass.ENDPOINT, "never started"),
        (coded(404, "FUNCTION_NOT_FOUND"), EndpointError, ErrorClass.ENDPOINT, "function_id"),
        (
            coded(413, "TASK_PAYLOAD_TOO_LARGE"),
            RequestTooLargeError,
            ErrorClass.TRANSFER,
            "inline_limit_bytes",
        ),
        (coded(422, "SEMANTICALLY_INVALID"), EndpointError, ErrorClass.ENDPOINT, "user_endpoint_config"),
        (coded(423, "RESOURCE_LOCKED"), EndpointError, ErrorClass.ENDPOINT, "locked"),
        (coded(429, "TOO_MANY"), ThrottledError, ErrorClass.SERVICE, "20 requests"),
        (coded(500, "INTERNAL_ERROR"), DeliveryError, ErrorClass.SERVICE, "status.globus.org"),
        (coded(503, "UNAVAILABLE"), DeliveryError, ErrorClass.SERVICE, "HTTP 503"),
        (coded(418, "TEAPOT"), DeliveryError, ErrorClass.SERVICE, "HTTP 418"),
    ],
)
def test_each_refusal_says_what_where_who_and_what_to_do(
    answer: Answer,
    kind: type[DeliveryError],
    error_class: ErrorClass,
    words: str,
    cloud: ScriptedService,
    site_a: ComputeService,
) -> None:
    cloud.answers[DESCRIBE] = answer
    with pytest.raises(DeliveryError) as caught:
        site_a.endpoint(ENDPOINT)
    error = caught.value
    text = str(error)
    assert (type(error), error.error_class) == (kind, error_class)
    assert words in text and "What the service says." in text and answer.body["code"] in text
    assert ENDPOINT in text or ID_A in text or error_class is ErrorClass.ENDPOINT
    assert SECRET not in text


def test_a_refused_identity_is_named_and_so_is_the_endpoint(
    cloud: ScriptedService, site_a: ComputeService
) -> None:
    cloud.answers[DESCRIBE] = coded(403, "ENDPOINT_ACCESS_FORBIDDEN")
    with pytest.raises(EndpointError) as caught:
        site_a.endpoint(ENDPOINT)
    text = str(caught.value)
    assert all(
        word in text for word in (ENDPOINT, ID_A, "SITE_A_CLIENT_ID", "`credentials`", "appfl-gc whoami")
    )


def test_retry_after_is_told(cloud: ScriptedService, site_a: ComputeService) -> None:
    cloud.answers[DESCRIBE] = Answer(429, {"code": "X", "message": "Slow."}, {"Retry-After": "7"})
    with pytest.raises(ThrottledError) as caught:
        site_a.endpoint(ENDPOINT)
    assert caught.value.retry_after == 7


def test_text_of_the_service_is_cleaned_and_capped(cloud: ScriptedService, site_a: ComputeService) -> None:
    cloud.answers[DESCRIBE] = coded(500, "C\x1b[31m", "\x1b]0;owned\x07" + "long " * 1000)
    with pytest.raises(DeliveryError) as caught:
        site_a.endpoint(ENDPOINT)
    assert "\x1b" not in str(caught.value) and "\x07" not in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_an_answer_that_is_not_understood(cloud: ScriptedService, site_a: ComputeService) -> None:
    cloud.answers[DESCRIBE] = Answer(200, ["not", "an", "object"])
    cloud.answers["GET /v2/version"] = Answer(200, {"min_sdk_version": 5})
    for ask in (lambda: site_a.endpoint(ENDPOINT), site_a.versions):
        with pytest.raises(DeliveryError, match="not understood"):
            ask()


SIGN_IN: dict[str, Any] = {
    "code": "AuthenticationRequired",
    "authorization_parameters": {
        "session_message": "Use your laboratory's account.",
        "session_required_single_domain": ["lab.example"],
    },
}


class TestSignIn:
    def test_the_provider_to_choose_is_named(self, cloud: ScriptedService) -> None:
        store_login()
        cloud.answers[DESCRIBE] = Answer(403, SIGN_IN)
        service = service_of(default_identity())
        with pytest.raises(EndpointError) as caught:
            service.endpoint(ENDPOINT)
        service.close()
        text = str(caught.value)
        for words in (ENDPOINT, PERSON, "an account of lab.example", "Use your laboratory's account."):
            assert words in text
        assert "appfl-gc login --force --domain lab.example" in text

    def test_the_sdk_does_not_prompt_either(self, cloud: ScriptedService) -> None:
        store_login()
        cloud.answers[DESCRIBE] = Answer(403, SIGN_IN)
        identity = default_identity()
        client = service_of(identity).sdk_client()
        with pytest.raises(EndpointError, match=r"account of lab\.example"):
            client.get_endpoint_metadata(ENDPOINT)
        client.app.close()

    def test_an_application_is_told_that_it_cannot(
        self, cloud: ScriptedService, site_a: ComputeService
    ) -> None:
        cloud.answers[DESCRIBE] = Answer(403, SIGN_IN)
        with pytest.raises(EndpointError, match="An application can't sign in that way"):
            site_a.endpoint(ENDPOINT)
        client = site_a.sdk_client()
        with pytest.raises(ComputeAPIError) as caught:
            client.get_endpoint_metadata(ENDPOINT)
        ours = translate(caught.value, Request("describe", site_a.identity, ENDPOINT))
        assert isinstance(ours, EndpointError) and "lab.example" in ours.message
        client.app.close()

    @pytest.mark.parametrize(
        ("wanted", "words", "option"),
        [
            ({"session_required_mfa": True}, "a second factor", "--mfa"),
            ({"session_required_policies": [ID_A]}, f"the policy {ID_A}", f"--policy {ID_A}"),
            ({"session_required_identities": ["ada@lab"]}, "the identity ada@lab", "--identity ada@lab"),
        ],
    )
    def test_other_requirements(
        self, wanted: dict[str, Any], words: str, option: str, cloud: ScriptedService
    ) -> None:
        store_login()
        cloud.answers[DESCRIBE] = Answer(403, {"code": "Wanted", "authorization_parameters": wanted})
        service = service_of(default_identity())
        with pytest.raises(EndpointError) as caught:
            service.endpoint(ENDPOINT)
        service.close()
        assert words in str(caught.value) and option in str(caught.value)


class TestLogin:
    """A person's login that is missing, ends, and comes back from another shell."""

    @pytest.fixture
    def service(self, cloud: ScriptedService) -> Iterator[ComputeService]:
        cloud.answers[DESCRIBE] = Answer(200, {"name": "site"})
        service = service_of(default_identity())
        yield service
        service.close()

    def test_a_missing_login_is_an_error_and_no_prompt(
        self, cloud: ScriptedService, service: ComputeService
    ) -> None:
        assert service.identity.login_required()
        client = service.sdk_client()
        for ask in (
            lambda: service.endpoint(ENDPOINT),
            lambda: client.get_endpoint_metadata(ENDPOINT),
            lambda: client.register_source_code("def f(): pass", "f"),
            client.get_result_amqp_url,
        ):
            with pytest.raises(LoginError, match="appfl-gc login"):
                ask()
        assert cloud.requests == []
        client.app.close()

    def test_a_login_in_another_shell_is_seen(self, service: ComputeService) -> None:
        client = service.sdk_client()
        with pytest.raises(LoginError):
            service.endpoint(ENDPOINT)
        with pytest.raises(LoginError):
            client.get_endpoint_metadata(ENDPOINT)
        store_login()
        assert not service.identity.login_required()
        assert service.endpoint(ENDPOINT) == {"name": "site"}
        assert client.get_endpoint_metadata(ENDPOINT)["name"] == "site"
        client.app.close()

    def test_its_life_is_told(self, service: ComputeService) -> None:
        store_login(seconds=3600)
        status = service.identity.login_status()
        assert (status.required, status.renews) == (False, True)
        assert status.seconds_left is not None and 3500 < status.seconds_left <= 3600

    def test_a_login_that_globus_no_longer_renews_is_required_anew(
        self, cloud: ScriptedService, service: ComputeService
    ) -> None:
        store_login(seconds=-10)
        cloud.answers["POST /v2/oauth2/token"] = Answer(400, {"error": "invalid_grant"})
        with pytest.raises(LoginError, match="has ended"):
            service.endpoint(ENDPOINT)
        assert service.identity.login_required()
        store_login("refresh-2")
        assert service.endpoint(ENDPOINT) == {"name": "site"}

    def test_a_login_meanwhile_is_not_dropped_with_the_old_one(
        self, cloud: ScriptedService, service: ComputeService
    ) -> None:
        service = ComputeService(service.identity, retries=1)
        store_login()
        service.endpoint(ENDPOINT)  # from now on it holds the old tokens
        store_login("refresh-2")
        cloud.answers[DESCRIBE] = coded(401, "USER_UNAUTHENTICATED")
        cloud.answers["POST /v2/oauth2/token"] = Answer(400, {"error": "invalid_grant"})
        with pytest.raises(LoginError, match="has ended"):
            service.endpoint(ENDPOINT)
        assert not service.identity.login_required()
        cloud.answers[DESCRIBE] = Answer(200, {})
        service.endpoint(ENDPOINT)
        assert cloud.requests[-1][1]["Authorization"] == "Bearer access-refresh-2"
        service.close()

    def test_trouble_at_globus_is_no_lost_login(
        self, cloud: ScriptedService, service: ComputeService
    ) -> None:
        store_login(seconds=-10)
        cloud.answers["POST /v2/oauth2/token"] = Answer(400, {"error": "temporarily_unavailable"})
        with pytest.raises(DeliveryError):
            service.endpoint(ENDPOINT)
        assert not service.identity.login_required()

    def test_two_accounts_in_one_storage(self, service: ComputeService) -> None:
        store_login()
        storage = UserLogin.of_environment().place.open()
        data = TokenStorageData("other", ID_B, "x", "a", "r", 0, "Bearer")
        storage.store_token_data_by_resource_server({"other": data})
        storage.close()
        with pytest.raises(LoginError, match="two accounts"):
            service.endpoint(ENDPOINT)


class TestApplications:
    def test_a_wrong_secret_is_told_without_it(self, cloud: ScriptedService, site_a: ComputeService) -> None:
        cloud.answers["POST /v2/oauth2/token"] = Answer(401, {"error": "invalid_client"})
        client = site_a.sdk_client()
        for ask in (lambda: site_a.endpoint(ENDPOINT), lambda: client.get_endpoint_metadata(ENDPOINT)):
            with pytest.raises(LoginError) as caught:
                ask()
            assert "SITE_A_CLIENT_ID" in str(caught.value) and ID_A in str(caught.value)
            assert SECRET not in str(caught.value)
        client.app.close()

    def test_two_identities_never_mix_their_tokens(
        self, cloud: ScriptedService, site_a: ComputeService
    ) -> None:
        cloud.answers[DESCRIBE] = Answer(200, {"name": "site"})
        site_b = service_of(identity_from("SITE_B"))
        for service in (site_a, site_b, site_a, site_b):
            service.endpoint(ENDPOINT)
        # Another process with the same storage asks for no new token and uses the right one.
        again = service_of(identity_from("SITE_A"))
        again.endpoint(ENDPOINT)
        bearers = [headers["Authorization"] for path, headers, _ in cloud.requests if path == DESCRIBE]
        assert bearers[0] == bearers[2] == bearers[4] != bearers[1] == bearers[3]
        assert cloud.tokens == 2
        for service in (site_b, again):
            service.close()

    def test_the_agent_uses_the_same_tokens(
        self, cloud: ScriptedService, site_a: ComputeService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cloud.answers[DESCRIBE] = Answer(200, {})
        cloud.answers["GET /v2/oauth2/userinfo"] = Answer(200, {"sub": ID_A})
        site_a.endpoint(ENDPOINT)
        assert site_a.userinfo().identity_id == ID_A
        minted = cloud.tokens
        monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", ID_A)
        monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "unused")
        app = get_globus_app_with_scopes()
        assert not app.login_required()
        app.close()
        assert cloud.tokens == minted


class TestTokens:
    def test_a_bare_token_is_sent_and_never_stored(
        self, cloud: ScriptedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_TOKEN", "bare-token")
        cloud.answers[DESCRIBE] = Answer(200, {"name": "site"})
        service = service_of(default_identity("MY_TOKEN"))
        assert service.endpoint(ENDPOINT) == {"name": "site"}
        assert cloud.requests[-1][1]["Authorization"] == "Bearer bare-token"
        with pytest.raises(LoginError, match="--openid_token"):
            service.userinfo()
        cloud.answers[DESCRIBE] = coded(401, "USER_UNAUTHENTICATED")
        with pytest.raises(LoginError) as caught:
            service.endpoint(ENDPOINT)
        assert "MY_TOKEN" in str(caught.value) and "bare-token" not in str(caught.value)
        assert not service.identity.waits_for_login
        service.close()
        stored = [
            path for path in tmp_path.rglob("*") if path.is_file() and b"bare-token" in path.read_bytes()
        ]
        assert stored == []

    def test_a_new_token_in_the_file_is_taken_after_a_refusal(
        self, cloud: ScriptedService, tmp_path: Path
    ) -> None:
        path = tmp_path / "token"
        path.touch(mode=0o600)
        path.write_text("old")
        service = service_of(default_identity(str(path)))
        cloud.answers[DESCRIBE] = coded(401, "USER_UNAUTHENTICATED")
        with pytest.raises(LoginError):
            service.endpoint(ENDPOINT)
        path.write_text("new")
        cloud.answers[DESCRIBE] = Answer(200, {})
        service.endpoint(ENDPOINT)
        assert cloud.requests[-1][1]["Authorization"] == "Bearer new"
        service.close()


class TestAnswers:
    def test_allowed_functions(self, cloud: ScriptedService, site_a: ComputeService) -> None:
        route = f"GET /v3/endpoints/{ENDPOINT}/allowed_functions"
        for body, expected in (
            ({"endpoint_id": ENDPOINT, "restricted": True, "functions": [ID_A.upper()]}, (ID_A,)),
            ({"endpoint_id": ENDPOINT, "restricted": True, "functions": []}, ()),
            ({"endpoint_id": ENDPOINT, "restricted": False, "functions": []}, None),
            ([ID_A], (ID_A,)),
        ):
            cloud.answers[route] = Answer(200, body)
            assert site_a.allowed_functions(ENDPOINT) == expected

    def test_credentials_of_the_result_queue_are_not_shown(
        self, cloud: ScriptedService, site_a: ComputeService
    ) -> None:
        body = {"queue_prefix": "p.", "connection_url": f"amqps://user:{SECRET}@host:443/"}
        cloud.answers["GET /v2/get_amqp_result_connection_url"] = Answer(200, body)
        queue = site_a.result_queue()
        assert SECRET in queue.url and SECRET not in repr(queue)


class TestNetwork:
    def test_an_unreachable_service_names_the_proxy_without_its_password(
        self, cloud: ScriptedService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store_login()
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://user:{SECRET}@127.0.0.1:9")
        service = service_of(default_identity())
        with pytest.raises(DeliveryError) as caught:
            service.endpoint(ENDPOINT)
        service.close()
        text = str(caught.value)
        assert "http://localhost:5000" in text and "the proxy http://127.0.0.1:9" in text
        assert "refused" in text and SECRET not in text and "0x" not in text
