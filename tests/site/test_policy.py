"""The owner of a site decides which code runs there."""

from __future__ import annotations

from pathlib import Path

import pytest

from appfl_gc.protocol.source import Source
from appfl_gc.site.policy import ALLOWED_FILE, PolicyError, SitePolicy, Sources, load_policy, policy_path

SOURCE = Source("model", "CNN", "cnn.py", "class CNN: pass\n")
NAMED = Source("dataset", "digits")


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_machines_policy_wins_over_the_variable_and_the_home(tmp_path: Path) -> None:
    system, named = tmp_path / "etc" / "site.yaml", tmp_path / "named.yaml"
    environ = {"APPFL_GC_SITE_POLICY": str(named)}
    home = written(tmp_path / "home" / ".appfl_gc" / "site.yaml", "sources: any")

    assert policy_path({}, system, tmp_path / "nobody") is None
    assert policy_path({}, system, tmp_path / "home") == home
    written(named, "sources: listed")
    assert policy_path(environ, system, tmp_path / "home") == named
    written(system, "sources: none")
    assert policy_path(environ, system, tmp_path / "home") == system


def test_a_variable_that_names_no_file_does_not_open_the_site(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="does not exist, so nothing may run"):
        policy_path({"APPFL_GC_SITE_POLICY": str(tmp_path / "none")}, tmp_path / "etc", tmp_path)


def test_no_policy_allows_any_source_and_says_so() -> None:
    policy = load_policy(None)
    assert policy.allows(SOURCE)
    assert "any source" in policy.description


@pytest.mark.parametrize(
    ("sources", "allowed", "expected"),
    [
        ("any", [], True),
        ("listed", [], False),
        ("listed", [SOURCE.sha256], True),
        ("none", [SOURCE.sha256], False),
    ],
)
def test_sources(tmp_path: Path, sources: str, allowed: list[str], expected: bool) -> None:
    path = written(tmp_path / "site.yaml", f"sources: {sources}\nallowed: {allowed}\n")
    assert load_policy(path).allows(SOURCE) is expected


def test_the_list_beside_the_policy_counts_too(tmp_path: Path) -> None:
    path = written(tmp_path / "site.yaml", "sources: listed")
    written(tmp_path / ALLOWED_FILE, f"# reviewed\n{SOURCE.sha256}  model cnn.py # allowed 2026-01-01\n\n")
    policy = load_policy(path)
    assert policy.allows(SOURCE)
    assert not policy.allows(Source("model", "CNN", "cnn.py", "import os\n"))


def test_what_the_site_names_runs_under_every_policy(tmp_path: Path) -> None:
    path = written(tmp_path / "site.yaml", "sources: none\ndatasets:\n  digits: /data/digits.py:load\n")
    policy = load_policy(path)
    assert policy.allows(NAMED)
    assert not policy.allows(Source("model", "digits"))
    assert policy.named["dataset", "digits"] == "/data/digits.py:load"


@pytest.mark.parametrize(
    "text",
    [
        "sources: some",
        "allowed: [abc]",
        "souces: none",
        "[1, 2]",
        "sources: [",
        "outbox: {max_bites: 3}",
        "datasets: [a]",
    ],
)
def test_a_policy_that_is_not_understood_lets_nothing_run(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError, match="nothing may run here"):
        load_policy(written(tmp_path / "site.yaml", text))


def test_limits_come_from_the_policy(tmp_path: Path) -> None:
    path = written(
        tmp_path / "site.yaml", "outbox: {max_bytes: 5, max_days: 1}\nmax_cached: 2\nsources: any\n"
    )
    policy = load_policy(path)
    assert (policy.outbox.max_bytes, policy.outbox.max_days, policy.max_cached) == (5, 1, 2)
    assert SitePolicy().sources is Sources.ANY
