"""Who submits for a client, and whose credentials can't be had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appfl_gc.config import Federation, load
from appfl_gc.control.globus_compute.identity.application import Application
from appfl_gc.protocol.errors import LoginError
from appfl_gc.runner.services import identity_of
from tests.small_federation import SmallFederation

ENDPOINT = "aaaaaaaa-5a4d-4b0c-8000-000000000001"


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Federation:
    """The second client has ``credentials`` of its own; the working directory is elsewhere."""
    small = SmallFederation(tmp_path / "project" / "configs")
    for number in range(2):
        small.client[number] = {"endpoint_id": ENDPOINT}
    small.client[1]["credentials"] = "keys/second.json"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return load(*small.write())


def test_a_file_is_found_above_the_clients_file(federation: Federation, tmp_path: Path) -> None:
    path = tmp_path / "project" / "keys" / "second.json"
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text(json.dumps({"client_id": ENDPOINT, "client_secret": "secret"}))
    found = identity_of(federation.clients[1], federation, (None, None))
    assert isinstance(found, Application) and found.client_id == ENDPOINT


def test_what_is_wrong_with_credentials_names_line_and_client(federation: Federation) -> None:
    with pytest.raises(LoginError) as caught:
        identity_of(federation.clients[1], federation, (None, None))
    text = str(caught.value)
    lines = federation.client_path.read_text().splitlines()
    number = next(index for index, line in enumerate(lines, 1) if "credentials" in line)
    assert f"{federation.client_path}:{number}: clients[1].credentials: client Client2: " in text, text
    assert "keys/second.json" in text
