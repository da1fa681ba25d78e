"""`--multi-user`: only who is named is mapped, and the administrator is told what to look at."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
import yaml

from appfl_gc.hpc.endpoint.configure import configure
from appfl_gc.hpc.endpoint.multi_user import identity_mapping
from appfl_gc.hpc.endpoint.options import EndpointOptions
from appfl_gc.protocol.errors import UsageError
from appfl_gc.site.policy import Sources, load_policy
from tests.hpc.loaded import loaded


def mapped(path: Path, username: str) -> list[str]:
    """The accounts that the agent's own mapper gives an identity."""
    from globus_compute_endpoint.endpoint.identity_mapper import PosixIdentityMapper

    mapper = PosixIdentityMapper(path, str(uuid.uuid4()))
    try:
        identity = {"id": "1", "sub": "1", "username": username, "status": "used"}
        return [name for found in mapper.map_identities([identity])[0] for name in found["1"]]
    finally:
        mapper.stop_watching()


def test_who_is_not_named_is_refused(endpoints: Path) -> None:
    options = EndpointOptions(
        "slurm",
        {"account": "a", "queue": "q"},
        multi_user=True,
        identities={"a.lice@uni.edu": "alice", "bob@uni.edu": "bob"},
    )
    written = configure("site", options, endpoints)
    core = yaml.safe_load((written.directory / "config.yaml").read_text())
    path = Path(core["identity_mapping_config_path"])
    assert path.stat().st_mode & 0o077 == 0
    assert mapped(path, "a.lice@uni.edu") == ["alice"]
    assert mapped(path, "bob@uni.edu") == ["bob"]
    for stranger in ("axlice@uni.edu", "eve-bob@uni.edu", "bob@uni.edu.evil", "root", "bob"):
        assert mapped(path, stranger) == []


def test_the_administrator_is_told_what_to_review(endpoints: Path) -> None:
    written = configure("site", EndpointOptions("slurm", multi_user=True), endpoints)
    told = "\n".join(written.review)
    for words in (
        "0 identities",
        "user_config_schema.json",
        "/etc/appfl_gc/site.yaml",
        "Any function may run",
    ):
        assert words in told
    mapping = json.loads((written.directory / "identity_mapping_config.json").read_text())
    assert mapping[0]["mappings"] == []
    policy = load_policy(written.directory / "example_site_policy.yaml")
    assert policy.sources is Sources.LISTED


def test_each_users_files_are_in_their_own_home(endpoints: Path, tmp_path: Path) -> None:
    directory = configure("site", EndpointOptions(multi_user=True), endpoints).directory
    variables = yaml.safe_load((directory / "user_environment.yaml").read_text())
    assert "GLOBUS_COMPUTE_USER_DIR" not in variables
    assert "APPFL_GC_SITE_HOME" not in variables
    with loaded(directory, {}) as config:
        assert config.paths is None
    with pytest.raises(UsageError, match="own home"):
        configure("other", EndpointOptions(multi_user=True, directory=tmp_path), endpoints)


@pytest.mark.parametrize(
    ("identity", "account"),
    [
        ("alice", "alice"),
        (".*@uni.edu", "all"),
        ("alice@uni.edu", "root"),
        ("alice@uni.edu", "a b"),
        ("a@b\n", "x"),
    ],
)
def test_what_cannot_be_mapped(identity: str, account: str) -> None:
    with pytest.raises(UsageError):
        identity_mapping({identity: account})
