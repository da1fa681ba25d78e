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
    assert problem.startswith(f"{name} is not used: ")
    with pytest.raises(UsageError, match="is not used"):
        arguments(name, {})


def test_distributed_connectors_are_refused_because_they_unpickle() -> None:
    assert "unpickles" in check_configs("ZeroMQConnector", {"port": 1})[0]


def test_an_unknown_connector_gets_the_nearest_name() -> None:
    assert "Did you mean RedisConnector?" in check_configs("RedisConector", {})[0]
    assert "Did you mean EndpointConnector?" in check_configs("endpoint", {})[0]
    assert "missing" in check_configs(None, {})[0]


@pytest.mark.parametrize(
    ("name", "configs", "said"),
    [
        ("RedisConnector", {"hostname": "h"}, "RedisConnector needs `port`."),
        ("RedisConnector", {"hostname": "h", "port": 99999}, "`port` of RedisConnector does not fit: "),
        (
            "RedisConnector",
            {"host": "h", "hostname": "h", "port": 1},
            "no keyword argument `host`. Did you mean hostname?",
        ),
        ("FileConnector", {"store_dir": "a\nb"}, "`store_dir` of FileConnector does not fit"),
        ("EndpointConnector", {"endpoints": []}, "`endpoints` of EndpointConnector does not fit"),
        ("EndpointConnector", {"endpoints": ["nonsense"]}, "`endpoints.0` of EndpointConnector does not fit"),
        ("GlobusConnector", {"endpoints": {str(uuid.uuid4()): COLLECTION}}, "`endpoints` of GlobusConnector"),
        (
            "GlobusConnector",
            {"endpoints": {str(uuid.uuid4()): {}, str(uuid.uuid4()): COLLECTION}},
            "endpoint_path",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(name: str, configs: dict[str, object], said: str) -> None:
    assert said in " ".join(check_configs(name, configs))


def test_arguments_without_effect_are_told() -> None:
    assert without_effect("RedisConnector", GOOD["RedisConnector"]) == [
        "`clear` of RedisConnector has no effect: only what a run has put itself is ever deleted."
    ]


def test_checking_imports_neither_proxystore_nor_torch() -> None:
    code = (
        "import sys; from appfl_gc.config.connectors import check_configs;"
        "check_configs('RedisConnector', {'hostname': 'h', 'port': 1});"
        "print({'torch', 'proxystore', 'redis', 'numpy', 'blake3'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
