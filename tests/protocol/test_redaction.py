from __future__ import annotations

from types import MappingProxyType

import pytest

from appfl_gc.protocol.redaction import REDACTED, redact


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "api_token",
        "secret",
        "client_secret",
        "password",
        "dbPassword",
        "access_key_id",
        "credentials",
        "userpassword",
        "authtoken",
        "APIKey",
        "accesskey",
        "private_key",
    ],
)
def test_secrets_are_replaced(name: str) -> None:
    assert redact({"a": [{name: "hush"}]}) == {"a": [{name: REDACTED}]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_token", 512), ("s3_creds_file", "./c.csv"), ("tokenizer", "bert"), ("key", "a"), ("use_token", True),
        ("password", None), ("token_ids", [1, 2]), ("monkey", "a"),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_kept(name: str, value: object) -> None:
    assert redact({name: value}) == {name: value}


def test_keys_inside_credentials_and_users_in_addresses() -> None:
    assert redact({"creds": {"key": "hush", "region": "eu"}}) == {"creds": {"key": REDACTED, "region": "eu"}}
    assert redact("redis://me:hush@host:1/0") == f"redis://{REDACTED}@host:1/0"
    assert redact("redis://me:hu@sh@host/0") == f"redis://{REDACTED}@host/0"
    assert redact({"tokens": ["hush", 1]}) == {"tokens": [REDACTED, 1]}
    assert redact({"credentials": {"any": "hush"}}) == {"credentials": REDACTED}


def test_any_mapping_is_searched() -> None:
    assert redact(MappingProxyType({"a": MappingProxyType({"token": "hush"})})) == {"a": {"token": REDACTED}}


def test_numbers_that_json_lacks_are_written_as_in_yaml() -> None:
    assert redact([float("inf"), float("-inf"), float("nan"), 1.5]) == [".inf", "-.inf", ".nan", 1.5]


def test_secrets_in_shell_text_are_replaced_and_the_rest_stays() -> None:
    script = "module load conda; export HF_TOKEN=hf_abc123 OMP_NUM_THREADS=8 KEY_FILE=/home/me/key; X_TOKEN=$Y_TOKEN"
    shown = redact({"user_endpoint_config": {"worker_init": script}})["user_endpoint_config"]["worker_init"]
    assert "hf_abc123" not in shown
    assert shown == script.replace("hf_abc123", "(redacted)")
