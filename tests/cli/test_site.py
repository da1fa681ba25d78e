"""`appfl-gc site`: the owner reviews, allows and revokes what was refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from appfl_gc.cli.main import cli
from appfl_gc.protocol.identity import CallId
from appfl_gc.protocol.source import Source
from appfl_gc.site.audit import keep_for_review
from appfl_gc.site.policy import load_policy

SOURCE = Source("model", "CNN", "cnn.py", "class CNN: pass\n")


@pytest.fixture(autouse=True)
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text("sources: listed\n")
    monkeypatch.setenv("APPFL_GC_SITE_POLICY", str(path))
    monkeypatch.setenv("APPFL_GC_SITE_HOME", str(tmp_path / "site"))
    keep_for_review(tmp_path / "site" / "refused", SOURCE, CallId("run", 0, "A"))
    return path


def site(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["site", *arguments])


def test_review_allow_revoke(policy: Path) -> None:
    listed = site("review")
    assert listed.exit_code == 0, listed.stderr
    assert SOURCE.sha256 in listed.stdout
    assert "cnn.py" in listed.stdout
    assert SOURCE.text in site("review", SOURCE.sha256[:12]).stdout  # type: ignore[operator]

    assert site("allow", SOURCE.sha256[:12]).exit_code == 0
    assert load_policy(policy).allows(SOURCE)
    assert "No source waits" in site("review").stdout
    assert "allowed already" in site("allow", SOURCE.sha256).stdout

    assert site("revoke", SOURCE.sha256[:12]).exit_code == 0
    assert not load_policy(policy).allows(SOURCE)


@pytest.mark.parametrize("command", ["allow", "revoke", "review"])
@pytest.mark.parametrize("prefix", ["abc", "0" * 12, ""])
def test_a_hash_that_fits_nothing_changes_nothing(policy: Path, command: str, prefix: str) -> None:
    site("allow", SOURCE.sha256)
    before = [path.read_text() for path in sorted(policy.parent.glob("*.*"))]
    result = site(command, prefix)
    assert result.exit_code != 0
    assert "12 characters" in result.stderr
    assert [path.read_text() for path in sorted(policy.parent.glob("*.*"))] == before


def test_a_list_without_effect_is_refused(policy: Path) -> None:
    policy.write_text("sources: any\n")
    result = site("allow", SOURCE.sha256)
    assert result.exit_code != 0
    assert "sources: listed" in result.stderr


def test_a_site_without_policy_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APPFL_GC_SITE_POLICY")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    result = site("allow", SOURCE.sha256)
    assert result.exit_code != 0
    assert "no policy file" in result.stderr
