"""Where a site keeps what it must remember."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SITE_HOME = "APPFL_GC_SITE_HOME"
SITE_STATE = "APPFL_GC_SITE_STATE"


@dataclass(frozen=True)
class SitePaths:
    """Directories and files of a site. Nothing is made before it is needed.

    Attributes:
        home: what the site's owner looks at: audit file, refused sources.
        state: what workers keep between calls; it may be deleted at the cost of work.
    """

    home: Path
    state: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> SitePaths:
        """``$APPFL_GC_SITE_HOME`` or ``~/.appfl_gc/site``; the state in ``$APPFL_GC_SITE_STATE`` or there too."""
        chosen, state = environ.get(SITE_HOME), environ.get(SITE_STATE)
        home = Path(chosen) if chosen else Path.home() / ".appfl_gc" / "site"
        return cls(home, Path(state) if state else home)

    @property
    def sources(self) -> Path:
        """User source files, by hash."""
        return self.state / "sources"

    @property
    def refused(self) -> Path:
        """Source files that the policy refused, kept for review."""
        return self.home / "refused"

    @property
    def outbox(self) -> Path:
        """Replies that no later call has acknowledged."""
        return self.state / "outbox"

    @property
    def clients(self) -> Path:
        """What clients' trainers remember between tasks."""
        return self.state / "clients"

    @property
    def checkpoints(self) -> Path:
        """Where interrupted tasks go on."""
        return self.state / "checkpoints"

    @property
    def audit(self) -> Path:
        """The audit file, one JSON object a line."""
        return self.home / "audit.jsonl"


def digest(*parts: str) -> str:
    """A file name for texts that somebody else chose, 32 hexadecimal digits."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
