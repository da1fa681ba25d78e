"""Which connectors serve, and what is said of the others."""

from __future__ import annotations

import subprocess
import sys
import uuid

import pytest

from appfl_gc.config.connectors import (
    ARGUMENTS,
    REFUSED,
    arguments,
    check_configs,
    placeholders,
    without_effect,
)
from appfl_gc.protocol.errors import UsageError

COLLECTION = {"endpoint_path": "/a", "local_path": "/b", "host_regex": "h.*"}
GOOD = {
    "EndpointConnector": {"endpoints": [str(uuid.uuid4())]},
    "RedisConnector": {"hostname": "h", "port": 6379, "clear": True},
    "FileConnector": {"store_dir": "/s", "clear": False, "buffering": -1},
    "GlobusConnector": {"endpoints": {str(uuid.uuid4()): COLLECTION, str(uuid.uuid4()): COLLECTION}},
}


@pytest.mark.parametrize("name", GOOD)
def test_valid_arguments_pass(name: str) -> None:
    assert check_configs(name, GOOD[name]) == []


def test_all_connectors_of_the_installed_proxystore_are_known() -> None:
    """A connector that a later ProxyStore brings must be supported or refused in words."""
    import importlib
    import pkgutil

    connectors = pytest.importorskip("proxystore.connectors")  # not where only the configuration is tested

    found = set()
    for module in pkgutil.iter_modules(connectors.__path__):
        if module.name not in ("dim", "protocols"):
            content = importlib.import_module(f"proxystore.connectors.{module.name}")
            found |= {name for name in vars(content) if name.endswith("Connector") and name != "Connector"}
    assert {"EndpointConnector", "GlobusConnector"} <= found <= {*ARGUMENTS, *REFUSED}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_connectors_say_why(name: str) -> None:
    (problem,) = check_configs(name, {})
    assert problem.key == ("connector_type",)
    assert problem.sentence.startswith(f"{name} is not used: ")
    with pytest.raises(UsageError, match="is not used"):
        arguments(name, {})


def test_distributed_connectors_are_refused_because_they_unpickle() -> None:
    assert "unpickles" in check_configs("ZeroMQConnector", {"port": 1})[0].sentence


def test_an_unknown_connector_gets_the_nearest_name() -> None:
    assert "Did you mean RedisConnector?" in check_configs("RedisConector", {})[0].sentence
    assert "Did you mean EndpointConnector?" in check_configs("endpoint", {})[0].sentence
    assert "missing" in check_configs(None, {})[0].sentence


@pytest.mark.parametrize(
    ("name", "configs", "key", "said"),
    [
        ("RedisConnector", {"hostname": "h"}, ("port",), "RedisConnector needs `port`."),
        (
            "RedisConnector",
            {"hostname": "h", "port": 99999},
            ("port",),
            "`port` of RedisConnector: expected a whole number from 1 to 65535, found 99999.",
        ),
        (
            "RedisConnector",
            {"hostname": "", "port": 1},
            ("hostname",),
            "`hostname` of RedisConnector: expected text that is not empty, found ''.",
        ),
        (
            "RedisConnector",
            {"host": "h", "hostname": "h", "port": 1},
            ("host",),
            "RedisConnector has no keyword argument `host`. Did you mean hostname? "
            "It takes hostname, port, tls, clear.",
        ),
        (
            "FileConnector",
            {"store_dir": "a\nb"},
            ("store_dir",),
            "`store_dir` of FileConnector: expected text in one line, without control characters, "
            "found 'a\\nb'.",
        ),
        (
            "EndpointConnector",
            {"endpoints": []},
            ("endpoints",),
            "`endpoints` of EndpointConnector has no entry; it needs at least 1.",
        ),
        (
            "EndpointConnector",
            {"endpoints": [str(uuid.uuid4()), "abc"]},
            ("endpoints", 1),
            "`endpoints[1]` of EndpointConnector: expected a UUID, found 'abc'.",
        ),
        (
            "GlobusConnector",
            {"endpoints": {str(uuid.UUID(int=1)): COLLECTION}},
            ("endpoints",),
            "`endpoints` of GlobusConnector has 1 entry; it needs at least 2.",
        ),
        (
            "GlobusConnector",
            {"endpoints": {"abc": COLLECTION, str(uuid.UUID(int=1)): COLLECTION}},
            ("endpoints", "abc"),
            "`endpoints.abc` of GlobusConnector: expected a UUID, found 'abc'.",
        ),
        (
            "GlobusConnector",
            {
                "endpoints": {
                    str(uuid.UUID(int=2)): {**COLLECTION, "path": "/"},
                    str(uuid.UUID(int=1)): COLLECTION,
                }
            },
            ("endpoints", str(uuid.UUID(int=2)), "path"),
            f"GlobusConnector has no keyword argument `endpoints.{uuid.UUID(int=2)}.path`. "
            "Did you mean local_path? It takes endpoint_path, local_path, host_regex.",
        ),
        (
            "GlobusConnector",
            {"endpoints": GOOD["GlobusConnector"]["endpoints"], "timeout": 0},
            ("timeout",),
            "`timeout` of GlobusConnector: expected a number of more than 0, found 0.",
        ),
        (
            "GlobusConnector",
            {"endpoints": GOOD["GlobusConnector"]["endpoints"], "sync_level": "no"},
            ("sync_level",),
            "`sync_level` of GlobusConnector: expected one of exists, size, mtime, checksum, found 'no'.",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(
    name: str, configs: dict[str, object], key: tuple[str | int, ...], said: str
) -> None:
    (problem,) = check_configs(name, configs)
    assert problem.sentence == said
    assert problem.key == ("connector_configs", *key)


def test_a_password_is_sent_to_netrc_and_not_repeated() -> None:
    (problem,) = check_configs("RedisConnector", {**GOOD["RedisConnector"], "password": "s3cret"})
    assert problem.key == ("connector_configs", "password")
    assert "reads user and password from ~/.netrc" in problem.sentence
    assert "login default password PASSWORD" in problem.hint
    with pytest.raises(UsageError) as caught:
        arguments("RedisConnector", {**GOOD["RedisConnector"], "password": "s3cret"})
    assert caught.value.hint == problem.hint
    assert "s3cret" not in f"{problem}{caught.value}"


def test_arguments_without_effect_are_told() -> None:
    (remark,) = without_effect("RedisConnector", GOOD["RedisConnector"])
    assert remark.key == ("connector_configs", "clear")
    assert remark.sentence == (
        "`clear` of RedisConnector has no effect: only what a run has put itself is ever deleted."
    )


def test_the_examples_uuids_are_told_from_real_ones() -> None:
    example = {"endpoints": ["11111111-1111-1111-1111-111111111111", str(uuid.uuid4())]}
    (note,) = placeholders(arguments("EndpointConnector", example))
    assert note.key == ("connector_configs", "endpoints")
    for name, configs in GOOD.items():
        assert placeholders(arguments(name, configs)) == []


def test_checking_imports_neither_proxystore_nor_torch() -> None:
    code = (
        "import sys; from appfl_gc.config.connectors import check_configs;"
        "check_configs('RedisConnector', {'hostname': 'h', 'port': 1});"
        "print({'torch', 'proxystore', 'redis', 'numpy', 'blake3'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
