"""Logins: boto3's own chain, sessions that end, and machines without boto3."""

import logging
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest

from appfl_gc.payload.s3.problems import plain
from appfl_gc.payload.s3.server_store import S3Store
from appfl_gc.payload.s3.settings import S3Settings
from appfl_gc.protocol.errors import AppflGcError, UsageError, VersionError
from tests.s3_server import ACCESS_KEY, REGION, SECRET_KEY

from .conftest import QUICK
from .payloads import Payload, fetched, site


@pytest.fixture(autouse=True)
def no_login(monkeypatch, tmp_path):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def make(**settings):
    return S3Store(S3Settings("models", **settings), "run", threading.Event())


def session(monkeypatch, seconds):
    ends = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends.isoformat())


def test_boto3s_own_chain_is_used_without_a_file(s3_server, bucket, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[fl]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    (tmp_path / "config").write_text(f"[profile fl]\nregion = {REGION}\n")
    monkeypatch.setenv("AWS_PROFILE", "fl")
    store = S3Store(S3Settings(bucket, s3_server.url), "by-profile", threading.Event())
    ref = site(store.grant([], 10)).put(Payload(10))
    assert fetched(store, ref) == Payload(10).content
    store.evict(ref)
    assert store.where["credentials_file"] is None
    assert store.seconds_valid() == 604_800


def test_granted_urls_live_no_longer_than_the_session(monkeypatch):
    session(monkeypatch, 3600)
    assert 3500 < make(region=REGION).seconds_valid() <= 3600
    assert make(region=REGION, url_seconds=120).seconds_valid() == 120


def test_no_token_and_no_signature_is_logged_at_any_level(s3_server, bucket, monkeypatch, caplog):
    token = "token-of-the-session-0123456789"
    session(monkeypatch, 3600)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    caplog.set_level(logging.DEBUG)
    # As somebody does who looks for the reason of something.
    for name in ("botocore", "botocore.endpoint", "urllib3"):
        caplog.set_level(logging.DEBUG, name)
    store = S3Store(S3Settings(bucket, s3_server.url, REGION), "logged", threading.Event(), patience=QUICK)
    # This server may know no sessions; it is asked in any case.
    with suppress(AppflGcError):
        store.grant([], 10)
    with suppress(AppflGcError):
        store.put(Payload(10))
    with suppress(AppflGcError):
        store.sweep()
    assert "/models" in caplog.text, "no request was made"
    url = store._sign("put_object", "0" * 32)
    assert token in url
    for secret in (token, "Signature=", "Authorization", "X-Amz-Security-Token", SECRET_KEY):
        assert secret.lower() not in caplog.text.lower()
    assert not [
        record
        for record in caplog.records
        if record.name.startswith(("botocore", "boto3")) and record.levelno < logging.INFO
    ]


def test_a_session_that_has_ended_is_said(monkeypatch):
    session(monkeypatch, 3600)
    store = make(region=REGION)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z")
    with pytest.raises(UsageError, match="session of these credentials has ended"):
        make(region=REGION).seconds_valid()
    assert store.seconds_valid() > 0


@pytest.mark.parametrize(
    ("profile", "said"),
    [(None, "no S3 credentials on this machine"), ("nobody", "configuration on this machine")],
)
def test_a_machine_without_a_login(monkeypatch, profile, said):
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(UsageError, match=said):
        make(region=REGION)


def test_boto3_that_is_missing_is_said(monkeypatch):
    for name in ("boto3", "boto3.session"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(VersionError, match="pip install boto3"):
        make()


def test_a_site_needs_no_boto3():
    text = "import sys; sys.modules['boto3'] = sys.modules['botocore'] = None; import appfl_gc.payload.s3.granted"
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60)


def test_every_error_of_boto3_becomes_a_sentence_without_the_request():
    from botocore import exceptions

    url = "https://models.s3.amazonaws.com/key?X-Amz-Signature=secret"
    for error, said in [
        (exceptions.EndpointConnectionError(endpoint_url=url), "can't be reached"),
        (exceptions.ReadTimeoutError(endpoint_url=url), "did not answer in time"),
        (exceptions.ConnectionClosedError(endpoint_url=url), "connection broke"),
        (exceptions.SSLError(endpoint_url=url, error="bad"), "certificate"),
        (exceptions.ProxyConnectionError(proxy_url="http://me:word@proxy"), "through the proxy"),
        (exceptions.SSOTokenLoadError(error_msg=url), "single sign-on"),
        (exceptions.ClientError({"Error": {"Code": "PermanentRedirect"}}, "Put"), "another region"),
        (exceptions.ClientError({"Error": {"Code": "RequestTimeTooSkewed"}}, "Put"), "clock is wrong"),
        (exceptions.ClientError({"Error": {"Code": "ExpiredToken"}}, "Put"), "session of these"),
        (exceptions.ClientError({"Error": {"Code": "InvalidBucketName"}}, "Put"), "3 to 63 lowercase"),
        (exceptions.ClientError({"Error": {"Code": "Odd<script>"}}, "Put"), "did not put"),
        (exceptions.ClientError({}, "Put"), "did not put"),
    ]:
        found = plain(error, "put it", "models")
        assert isinstance(found, AppflGcError)
        assert said in str(found)
        assert "secret" not in str(found) and "me:word" not in str(found) and "<" not in str(found)
