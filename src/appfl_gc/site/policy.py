"""The site's policy: whose code may run here, and what the site offers by name."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from appfl_gc.protocol.errors import SourceRefusedError
from appfl_gc.protocol.source import Source

SYSTEM_POLICY = Path("/etc/appfl_gc/site.yaml")
POLICY_VARIABLE = "APPFL_GC_SITE_POLICY"
ALLOWED_FILE = "allowed_sources.txt"
SHA256 = re.compile(r"[0-9a-f]{64}")
NAMED_KINDS = {
    "datasets": "dataset",
    "models": "model",
    "losses": "loss",
    "metrics": "metric",
    "trainers": "trainer",
}


class PolicyError(SourceRefusedError):
    """The policy file can't be used, so nothing may run."""


class Sources(str, enum.Enum):
    """Which source files that arrive with a call may run."""

    ANY = "any"
    LISTED = "listed"
    NONE = "none"


@dataclass(frozen=True)
class OutboxLimits:
    """How much the outbox keeps: bytes in all, and days since a reply was stored."""

    max_bytes: int = 20_000_000_000
    max_days: float = 14.0


@dataclass(frozen=True)
class SitePolicy:
    """What the owner of a site allows.

    Attributes:
        path: the file that says so, or None where there is no policy (then any source runs).
        sources: which source files may run.
        allowed: SHA-256 of the files that run under ``sources: listed``.
        named: (kind, name) to ``path.py:function``, what the site offers by name.
        audit: the audit file, or None for the site's own.
        outbox: limits of the outbox.
        max_cached: how many built datasets and models one worker keeps.
    """

    path: Path | None = None
    sources: Sources = Sources.ANY
    allowed: frozenset[str] = frozenset()
    named: Mapping[tuple[str, str], str] = field(default_factory=dict)
    audit: Path | None = None
    outbox: OutboxLimits = OutboxLimits()
    max_cached: int = 128

    def allows(self, source: Source) -> bool:
        """Whether ``source`` may run here. What the site itself names always may."""
        if source.text is None:
            return (source.kind, source.name) in self.named
        if self.sources is Sources.LISTED:
            return source.sha256 in self.allowed
        return self.sources is Sources.ANY

    @property
    def description(self) -> str:
        """One sentence for the logs at both ends."""
        if self.path is None:
            return "No site policy: any source that the server sends runs here."
        return f"Site policy {self.path}: sources {self.sources.value}, {len(self.allowed)} hashes allowed."


def policy_path(
    environ: Mapping[str, str] = os.environ, system: Path = SYSTEM_POLICY, home: Path | None = None
) -> Path | None:
    """The policy file in force: the system's, else ``$APPFL_GC_SITE_POLICY``, else the home directory's.

    Raises:
        PolicyError: if the variable names a file that does not exist.
    """
    if system.exists():
        return system
    named = environ.get(POLICY_VARIABLE)
    if named:
        if not Path(named).exists():
            raise PolicyError(
                f"${POLICY_VARIABLE} names the policy file {named}, which does not exist, so nothing may run here.",
                "Correct the variable or write the file.",
            )
        return Path(named)
    own = (home or Path.home()) / ".appfl_gc" / "site.yaml"
    return own if own.exists() else None


def load_policy(path: Path | None) -> SitePolicy:
    """Read a policy file; None gives the policy of a site that has none.

    Raises:
        PolicyError: if it can't be read or says something that is not known. Nothing runs then.
    """
    if path is None:
        return SitePolicy()
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(
            f"The site policy {path} can't be read ({error}), so nothing may run here."
        ) from None
    content = {} if content is None else content
    known = {"sources", "allowed", "audit", "outbox", "max_cached", *NAMED_KINDS}
    if not isinstance(content, dict) or set(content) - known:
        unknown = sorted(map(str, set(content) - known)) if isinstance(content, dict) else ["not a mapping"]
        raise PolicyError(
            f"The site policy {path} has what this version does not know ({', '.join(unknown)}), "
            "so nothing may run here.",
            f"Known keys are {', '.join(sorted(known))}.",
        )
    try:
        return SitePolicy(
            path=path,
            sources=Sources(content.get("sources", "any")),
            allowed=frozenset(_hashes(content.get("allowed") or ()))
            | listed_hashes(path.with_name(ALLOWED_FILE)),
            named={
                (kind, str(name)): str(target)
                for block, kind in NAMED_KINDS.items()
                for name, target in (content.get(block) or {}).items()
            },
            audit=Path(content["audit"]).expanduser() if content.get("audit") else None,
            outbox=OutboxLimits(**(content.get("outbox") or {})),
            max_cached=int(content.get("max_cached", SitePolicy.max_cached)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise PolicyError(
            f"The site policy {path} is not usable ({error}), so nothing may run here."
        ) from None


def _hashes(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        text = str(value).lower()
        if not SHA256.fullmatch(text):
            raise ValueError(f"allowed: {text[:80]!r} is not a SHA-256 in hexadecimal")
        yield text


def listed_hashes(path: Path) -> frozenset[str]:
    """The hashes of an ``allowed_sources.txt``: one a line, followed by anything; empty if there is no file."""
    if not path.exists():
        return frozenset()
    lines = (line.split("#")[0].split() for line in path.read_text().splitlines())
    return frozenset(_hashes(words[0] for words in lines if words))
