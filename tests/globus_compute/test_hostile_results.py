"""Results that a hostile site or service makes up: nothing of them runs, and the terminal sees none of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from globus_compute_sdk.serialize import CombinedCode, DillCode, DillDataBase64, PureSourceTextInspect

from appfl_gc.sandbox.sandbox import Sandbox
from tests.globus_compute.sites import DEADLINE, Site, at_sites, holding, wait_for
from tests.small_federation import METRIC, SmallFederation

ESCAPES = "\x1b[2J\x1b]0;hostile\x07"


class Bomb:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def hostile_code(marker: Path) -> list[str]:
    """Result texts that make ``marker`` where the SDK's own deserialisers read them."""
    dill = DillDataBase64().serialize(Bomb(f"touch {marker}"))
    pickled = dill.removeprefix(DillDataBase64.identifier)
    source = f"f:open({str(marker)!r}, 'w')\ndef f():\n    return {ESCAPES!r}\n"
    return [
        dill,
        f"{PureSourceTextInspect.identifier}{source}",
        f"{CombinedCode.identifier}{DillCode.identifier}:{pickled}",
    ]


def hostile_json() -> list[str]:
    """JSON result texts that break or mislead a reader."""
    return [
        "11\n" + "[" * 100_000 + "]" * 100_000,
        f"11\n{json.dumps({'wire': 1, 'error': ESCAPES, 'log': [ESCAPES]}, ensure_ascii=False)}",
    ]


@pytest.mark.parametrize("number", range(3))
def test_the_hostile_code_is_armed(tmp_path: Path, number: int) -> None:
    marker = tmp_path / "executed"
    readers = DillDataBase64(), PureSourceTextInspect(), CombinedCode()
    readers[number].deserialize(hostile_code(marker)[number])
    assert marker.exists()


@pytest.mark.parametrize(
    ("way", "failed"), [("push", False), ("poll", False), ("push", True), ("poll", True)]
)
def test_hostile_results(
    federation: SmallFederation,
    sites: tuple[Site, Site],
    sandbox: Sandbox,
    tmp_path: Path,
    way: str,
    failed: bool,
) -> None:
    marker = tmp_path / "executed"
    results = hostile_code(marker) + hostile_json()
    at_sites(federation, *([sites[0]] * len(results)))
    federation.metric = holding(METRIC, tmp_path)
    federation.server["control_configs"] = {"results": way}
    federation.server["fault_tolerance_configs"] = {"retries": 0}
    server, clients = federation.write()
    command = [sys.executable, "-m", "appfl_gc.cli.main", "run", "--plain", "--server_config", str(server)]
    process = subprocess.Popen(
        [*command, "--client_config", str(clients)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        # One client is held in its training, the others wait behind it.
        wait_for(lambda: len(unfinished(sandbox, sites[0])) == len(results) and (tmp_path / "held").exists())
        for task, text in zip(unfinished(sandbox, sites[0]), results, strict=True):
            sandbox.inject_result(task, ESCAPES + text if failed else text, as_exception=failed)
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.wait()
        (tmp_path / "go").touch()
        wait_for(lambda: not unfinished(sandbox, sites[0]))
    assert not marker.exists()
    assert process.returncode == (6 if failed else 9), output
    for number in range(len(results)):
        assert f"Client{number + 1}" in output
    assert sites[0].endpoint_id in output
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", output), repr(output)


def unfinished(sandbox: Sandbox, site: Site) -> list[str]:
    """Tasks at ``site`` without a result."""
    user_endpoints = sandbox.state()["user_endpoints"]
    return [
        task for one in user_endpoints if one["endpoint_id"] == site.endpoint_id for task in one["unfinished"]
    ]
