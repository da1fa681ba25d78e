"""``appfl-gc site``: the list of sources that this site allows."""

from __future__ import annotations

import time
from pathlib import Path

import click

from appfl_gc.cli.program import Program
from appfl_gc.protocol.errors import StorageError, UsageError
from appfl_gc.site.audit import RefusedSource, refused_sources
from appfl_gc.site.paths import SitePaths
from appfl_gc.site.policy import ALLOWED_FILE, SHA256, Sources, listed_hashes, load_policy, policy_path

MIN_PREFIX = 12


@click.group("site", context_settings={"help_option_names": ["-h", "--help"]})
def site() -> None:
    """Manage what this site allows to run."""


@site.command("review", cls=Program)
@click.argument("sha256", required=False)
def review(sha256: str | None) -> None:
    """List the sources that were refused; with a hash (or its beginning) show that file."""
    policy = load_policy(policy_path())
    click.echo(policy.description)
    waiting = [
        s for s in refused_sources(SitePaths.from_environment().refused) if s.sha256 not in policy.allowed
    ]
    if sha256 is not None:
        click.echo(_one(waiting, sha256).path.read_text(encoding="utf-8"))
        return
    for source in waiting:
        click.echo(
            f"{source.sha256}  {source.kind:<8} {source.filename}  run {source.run}, client {source.client}"
        )
    click.echo(f"{len(waiting)} sources wait for review." if waiting else "No source waits for review.")


@site.command("allow", cls=Program)
@click.argument("sha256")
def allow(sha256: str) -> None:
    """Allow a source by its SHA-256 (the beginning is enough for one that waits for review)."""
    path = _allowed_file()
    about = ""
    if not SHA256.fullmatch(sha256):
        source = _one(refused_sources(SitePaths.from_environment().refused), sha256)
        sha256, about = source.sha256, f" {source.kind} {source.filename}"
    if sha256 in listed_hashes(path):
        click.echo(f"{sha256} is allowed already.")
        return
    line = f"{sha256} {about} # allowed {time.strftime('%Y-%m-%d')}\n".replace("  ", " ")
    _write(path, (path.read_text() if path.exists() else "") + line)
    click.echo(f"{sha256} is allowed from now on ({path}).")


@site.command("revoke", cls=Program)
@click.argument("sha256")
def revoke(sha256: str) -> None:
    """Take back an allowed SHA-256 (the beginning is enough)."""
    path = _allowed_file()
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if len(sha256) < MIN_PREFIX or not line.startswith(sha256)]
    if len(kept) == len(lines):
        raise UsageError(
            f"No hash that begins with {sha256} is in {path}.",
            f"Give at least {MIN_PREFIX} characters. Hashes under `allowed:` in the policy file are edited there.",
        )
    _write(path, "".join(kept))
    click.echo(f"{len(lines) - len(kept)} hash revoked ({path}).")


def _one(candidates: list[RefusedSource], prefix: str) -> RefusedSource:
    found = [
        source for source in candidates if len(prefix) >= MIN_PREFIX and source.sha256.startswith(prefix)
    ]
    if len(found) != 1:
        raise UsageError(
            f"{len(found)} sources that wait for review begin with {prefix}.",
            f"`appfl-gc site review` lists them; give at least {MIN_PREFIX} characters.",
        )
    return found[0]


def _allowed_file() -> Path:
    """The list beside the policy file in force.

    Raises:
        UsageError: if there is no policy, or it does not go by a list.
    """
    policy = load_policy(policy_path())
    if policy.path is None:
        raise UsageError(
            "This site has no policy file, so any source runs and there is no list.",
            "Write `sources: listed` into ~/.appfl_gc/site.yaml, or /etc/appfl_gc/site.yaml for the whole machine.",
        )
    if policy.sources is not Sources.LISTED:
        raise UsageError(
            f"The policy {policy.path} says `sources: {policy.sources.value}`, so a list would have no effect.",
            "Write `sources: listed` there first.",
        )
    return policy.path.with_name(ALLOWED_FILE)


def _write(path: Path, text: str) -> None:
    aside = path.with_suffix(".tmp")
    try:
        aside.write_text(text)
        aside.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} can't be written: {error.strerror}.", "The policy's owner can write it."
        ) from None
